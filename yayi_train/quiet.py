"""What the libraries would print on their own account stays off the terminal."""

import os
import warnings


def quiet_libraries() -> None:
    """Silence the notices and progress bars of transformers and DeepSpeed; their errors still show."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    logging.disable_progress_bar()
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
