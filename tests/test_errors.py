"""Errors are one line, say what, where and how to mend it, and cross process borders."""

import inspect
import pickle

import pytest

from hierbmd import errors


def test_an_error_is_one_line_with_what_where_and_mend():
    error = errors.SliceGap("gap at z = 12 mm", where="scan/\nseries", mend="export the series again")
    assert str(error) == "gap at z = 12 mm: scan/ series (export the series again)"


@pytest.mark.parametrize("kind", [k for _, k in inspect.getmembers(errors, inspect.isclass)])
def test_every_error_is_the_projects_own_documented_and_survives_pickling(kind):
    assert issubclass(kind, errors.HierbmdError)
    assert kind.__doc__
    back = pickle.loads(pickle.dumps(kind("what", where="where", mend="mend")))
    assert type(back) is kind
    assert (back.what, back.where, back.mend, str(back)) == ("what", "where", "mend", "what: where (mend)")
