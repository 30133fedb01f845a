"""Command line of the converter."""

from scripts.datasets.complete_journey.convert import TITLE, convert
from scripts.datasets.output import converter_app

if __name__ == "__main__":
    converter_app(TITLE, convert)()
