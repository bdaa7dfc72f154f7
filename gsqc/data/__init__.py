# SPDX-License-Identifier: Apache-2.0
"""Training data: files of many forms become padded token sequences with a weight for each token.

from files to records      files, json_reader, saved_dataset, text_reader, records
from records to tokens     tokenizer, chat, encode, sequences
from tokens to data sets   packing, load: sequences to train on, and sequences held out
"""

from gsqc.data.encode import chat_prompt
from gsqc.data.files import data_digest
from gsqc.data.load import load_data, load_split
from gsqc.data.options import DataOptions, validation_share
from gsqc.data.sequences import WEIGHT_ONE, Dataset, TokenSequence

__all__ = [
    "WEIGHT_ONE",
    "DataOptions",
    "Dataset",
    "TokenSequence",
    "chat_prompt",
    "data_digest",
    "load_data",
    "load_split",
    "validation_share",
]
