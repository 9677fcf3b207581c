"""The command line ``napari-affmae``: the engine's jobs with progress on stderr, results on stdout, and honest exit codes.

Each command lives in a module of its own and imports what is heavy only when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import App, CycloptsError

from .. import __version__
from ..errors import AffmaeError, ConfigError, expected
from .bench import bench
from .card import card
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate
from .export import export
from .finetune import finetune
from .import_checkpoint import import_checkpoint
from .inspect import inspect
from .interrupt import Interrupted
from .pretrain import pretrain
from .project import project
from .segment import segment
from .suggest import suggest

__all__ = ["app", "main"]

DONE, FAILED, WRONG_USAGE, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141

app = App(
    name="napari-affmae",
    help="Self-supervised segmentation of microscopy with adaptive tokens.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for command in (demo, pretrain, finetune, segment, suggest, inspect, evaluate, card, export, import_checkpoint, bench, doctor):
    app.command(command)
app.command(project)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Parameters
    ----------
    arguments
        Words of the command line; None takes those of the process.

    Returns
    -------
    int
        0 done, 1 failed (the reason stands on stderr in one line), 2 wrong usage, 130 interrupted, 141 if whoever reads stdout
        went away before the end (``| head``), which is nothing to complain about.
    """
    _let_every_character_pass()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        command = " ".join(("napari-affmae", *(error.command_chain or ())))
        return _fail(f"{_one_line(str(error))} (see {command} --help)", WRONG_USAGE)
    except ConfigError as error:
        return _fail(str(error), WRONG_USAGE)
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go, and the interpreter would complain about that at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (AffmaeError, OSError, MemoryError) as error:
        return _fail(expected(error) or "", FAILED)
    except ImportError as error:
        if (error.name or "").startswith("napari_affmae"):
            raise
        return _fail(f"{error}; this installation is incomplete: install napari-affmae again", FAILED)
    except Interrupted as error:
        return _fail(str(error), INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else DONE


def _let_every_character_pass() -> None:
    """Let no command fail at a character that an output cannot encode."""
    # Redirected on Windows, an output has the encoding of the locale, without arrows, bars and many names of classes. UTF-8
    # keeps them, and editors read it; what programs read, --json, is ASCII. A terminal, and whoever sets PYTHONIOENCODING, gets
    # the encoding that they ask for, with ? for what it lacks, as for names of files that are no text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            is_asked_for = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if is_asked_for else "utf-8", errors="replace")


def _fail(message: str, code: int) -> int:
    print(f"napari-affmae: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    return " ".join(message.split())
