"""What an operator states: variables, options, the models file."""

from service.settings.loading import load_settings
from service.settings.model_spec import Activation, ModelSpec
from service.settings.models_file import NAMED_WEIGHTS, models_text, specs_of
from service.settings.settings import PREFIX, Settings, SettingsError
from service.settings.values import MODEL_NAME, MODELS, OFF

__all__ = [
    "MODELS",
    "MODEL_NAME",
    "NAMED_WEIGHTS",
    "OFF",
    "PREFIX",
    "Activation",
    "ModelSpec",
    "Settings",
    "SettingsError",
    "load_settings",
    "models_text",
    "specs_of",
]
