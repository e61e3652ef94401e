"""What an operator states: variables, options, the models file."""

from service.settings.loading import load_settings
from service.settings.model_spec import Activation, ModelSpec
from service.settings.models_file import NAMED_WEIGHTS, models_text, specs_of
from service.settings.settings import MODELS, OFF, PREFIX, Settings, SettingsError

__all__ = [
    "MODELS",
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
