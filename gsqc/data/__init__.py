# SPDX-License-Identifier: Apache-2.0
"""Training data: files of many forms become padded token sequences with a weight for each token.

from files to records      names, directories, files, content, *_reader, saved_dataset, records
from records to tokens     tokenizer, chat, labels, encode, sequences
from files to tokens       read_corpus, block_reader (several processes), corpus, piece_store
from tokens to data sets   packing, load: what is trained on, and held out
"""

from gsqc.data.chat_prompt import chat_prompt
from gsqc.data.files import data_digest, held_out_digest
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
    "held_out_digest",
    "load_data",
    "load_split",
    "validation_share",
]
