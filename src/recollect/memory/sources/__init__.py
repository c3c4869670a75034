"""Labelled inputs from outside: folders, CSV, Parquet and Hugging Face data sets on disk.

Reading stops at the inputs: images stay paths or undecoded bytes, so that a large set costs memory
only when an encoder asks for its images.
"""

from recollect.memory.sources.columns import ColumnOptions
from recollect.memory.sources.csv_files import read_csv
from recollect.memory.sources.datasets import read_dataset
from recollect.memory.sources.folders import read_files, read_folder
from recollect.memory.sources.labelled import LabelledInputs
from recollect.memory.sources.parquet import read_parquet
from recollect.memory.sources.places import read_inputs

__all__ = [
    "ColumnOptions",
    "LabelledInputs",
    "read_csv",
    "read_dataset",
    "read_files",
    "read_folder",
    "read_inputs",
    "read_parquet",
]
