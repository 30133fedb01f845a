"""Command line of the converter."""

from scripts.datasets.complete_journey.convert import TITLE, convert
from scripts.datasets.complete_journey.files import package_folder
from scripts.datasets.output import run_converter

if __name__ == "__main__":
    run_converter(TITLE, convert, package_folder())
