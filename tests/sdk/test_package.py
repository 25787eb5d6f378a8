import json
import pydoc
import re
from importlib import metadata

import pytest

import srflow_sdk
from srflow_sdk import errors
from srflow_sdk.system import raising as _raising


def test_every_public_name_resolves_and_is_listed_and_help_fits_two_screens():
    assert {getattr(srflow_sdk, name).__name__ for name in srflow_sdk.__all__} == {
        *srflow_sdk.__all__
    }
    assert set(dir(srflow_sdk)) == {*srflow_sdk.__all__, "__version__"}
    assert srflow_sdk.__version__ == metadata.version("srflow-sdk")
    text = pydoc.render_doc(srflow_sdk.Upscaler, renderer=pydoc.plaintext)
    assert len(text.splitlines()) <= 2 * 70


def test_the_tree_at_the_top_of_the_module_is_the_hierarchy():
    assert errors.__doc__ is not None
    parents = []
    drawn = {}
    for indent, name in re.findall(
        r"^    ([│├└─ ]*)([A-Z]\w+Error)\b", errors.__doc__, re.MULTILINE
    ):
        depth = len(indent) // 4
        kind = getattr(errors, name)
        drawn[name] = kind
        assert depth == 0 or parents[depth - 1] in kind.__bases__, name
        parents[depth:] = [kind]
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert drawn == kinds
    assert all(issubclass(kind, errors.SRFlowError) for kind in kinds.values())
    assert issubclass(errors.ArgumentError, ValueError)


def test_a_message_is_one_line_that_a_terminal_can_show():
    message = str(errors.BundleError("a\n  b \x1b[31mred\x9b \u2028 \u202e é ×"))
    assert message == "a b �[31mred� � � é ×"
    endless = str(errors.ImageError(f"{'a' * 50_000}; use another"))
    assert endless.startswith("aaa")
    assert endless.endswith("a; use another")
    assert len(endless) < 2100


def test_a_missing_extra_is_one_line_with_the_pip_command():
    with pytest.raises(
        errors.MissingExtraError, match=r'absent_module.*pip install "srflow-sdk\[train\]"'
    ) as error:
        _raising.require_extra("absent_module", "train")
    assert "\n" not in str(error.value)
    assert _raising.require_extra("json", "train") is json
