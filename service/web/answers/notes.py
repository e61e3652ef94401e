"""What to know of some weights before trusting the answers that are made with them."""

NOTES = {
    "demo": "Demo weights: a tiny network, trained on drawn scenes. It knows no photographs.",
    "random": "Random weights: the answers mean nothing.",
}
"""By the weights' name; an answer made with these says so, in the header X-Model-Weights."""
