"""What libraries print of their own accord stays off the terminal, and what they raise is told in a line."""

import os
import warnings

from yayi_data.console import one_line

_LONGEST = 300


def in_brief(error: Exception) -> str:
    """Return what a library's error says, in one line of 300 characters at most."""
    return one_line(" ".join(str(error).split()))[:_LONGEST]


def quiet_libraries() -> None:
    """Silence the notices and progress bars of transformers and DeepSpeed; their errors still show."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    logging.disable_progress_bar()
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
