"""URLs without their secrets: one form, in which a place is shown, compared and recorded."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest

from srflow_apps.batch.plan import identity
from srflow_apps.batch.storage import UrlPath, as_path
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.system.plain_text import without_secrets

SIGNED = "https://somebody:s3cr3t@Store.example:443/photos/a.png?X-Amz-Signature=s3cr3t%2F1&x=/y#s3cr3t"


def test_a_signed_url_is_shown_without_what_signs_it_and_opened_with_it() -> None:
    url = as_path(SIGNED)
    assert isinstance(url, UrlPath)
    assert str(url) == f"{url}" == "https://store.example/photos/a.png"
    assert url.whole == SIGNED.replace("Store.example:443", "store.example")
    assert (url.name, url.stem, url.suffix) == ("a.png", "a", ".png")
    for other in (url.with_name("b.png"), url.parent / "b.png", pickle.loads(pickle.dumps(url.parent)) / "b.png"):
        assert str(other) == "https://store.example/photos/b.png"
        assert other.whole == url.whole.replace("a.png", "b.png")
    assert url.parent.parent.name == "store.example"
    assert "s3cr3t" not in f"{url!r} {url.parents} {[str(parent) for parent in url.parents]}"
    for text in ("file:///photos/a.png", "local:///photos/a.png", "/photos/a.png"):
        assert as_path(text) == Path("/photos/a.png")
    assert not isinstance(as_path("C://photos"), UrlPath)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sftp://somebody:s3cr3t@Host:22/a.png", "sftp://somebody@host/a.png"),
        ("ssh://somebody@host:2222/a.png", "sftp://somebody@host:2222/a.png"),
        ("https://s3cr3t@host/a.png", "https://host/a.png"),
        ("http://host:8080/a.png?s3cr3t", "http://host:8080/a.png"),
        ("http://[::1]:80/a.png", "http://[::1]/a.png"),
        ("S3A://bucket//a.png", "s3://bucket/a.png"),
        ("s3://bucket/a@b:c d.png", "s3://bucket/a@b:c d.png"),
        ("s3://bucket/what?.png", "s3://bucket/what?.png"),
        ("abfss://container@account.dfs.core.windows.net/a.png", "abfs://container@account.dfs.core.windows.net/a.png"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/a.png", "s3://arn:aws:s3:eu-west-1:1:accesspoint/a.png"),
    ],
)
def test_a_place_has_one_form(text: str, shown: str) -> None:
    url = as_path(text)
    assert str(url) == shown
    assert as_path(shown) == url or "s3cr3t" in text
    assert identity(as_path(shown)) == identity(url) or "?" in text


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("s3a://bucket/a.png", "s3://bucket/a.png", True),
        ("sftp://somebody:one@host/a.png", "sftp://somebody:two@host:22/a.png", True),
        ("http://host/get?id=1", "http://host/get?id=2", False),
        ("s3://bucket/a.png", "s3://bucket/b.png", False),
    ],
)
def test_places_are_compared_without_passwords_and_with_queries(first: str, second: str, same: bool) -> None:
    one, other = as_path(first), as_path(second)
    assert (one == other) == (hash(one) == hash(other)) == (identity(one) == identity(other)) == same


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("s3://bucket/x/../a.png", "s3://bucket/x/../a.png: a URL with .. may mean several places"),
        ("https://somebody:s3/cr3t@host/a.png", "https://…: what follows its colon is no port"),
        ("https://somebody:s3?cr3t@host/a.png", "https://…: what follows its colon is no port"),
        ("s3://KEY:s3/cr3t@bucket/a.png", "s3://…: what follows its colon is no port"),
        ("s3://KEY:s3cr3t@bucket/a.png", "s3://KEY@bucket/a.png: s3:// takes no password"),
        ("s3://bucket/a.png?X-Amz-Signature=s3cr3t", "s3://bucket/a.png: only http:// and https:// have a query"),
        ("abfs://c@a/x.png?sv=1&sig=s3cr3t", "abfs://c@a/x.png: only http:// and https:// have a query"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line_without_its_secret(text: str, line: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        as_path(text)
    assert str(caught.value).startswith(line)
    assert "s3" not in str(caught.value).replace("s3:", "")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"403, message='Forbidden', url='{SIGNED}'",
            "403, message='Forbidden', url='https://Store.example:443/photos/a.png'",
        ),
        ("http://u:s3cr3t@h/a?sig=s3cr3t: no such file", "http://h/a: no such file"),
        ("see (https://h/a?sig=s3cr3t), or sftp://u:s3cr3t@h/b.", "see (https://h/a), or sftp://u@h/b."),
        ("https:/u:s3cr3t@h/a", "https:/h/a"),
        ("https:u:s3cr3t@h/a", "https:h/a"),
        ("https:///u:s3cr3t@h/a", "https:///h/a"),
        ("simplecache::https://h/a?sig=s3cr3t", "simplecache::https://h/a"),
        ("HTTPS://H/a?X-Amz-Signature=s3cr3t\nmore", "HTTPS://H/a more"),
        ("s3://b/a.png?sig=s3cr3t", "s3://b/a.png"),
        ("'http://u:s3'cr3t@h' is no number", "'http://h' is no number"),
        ("my_http://u:s3cr3t@h/a", "my_http://h/a"),
        ("is it a path? a/b?c=d, or 10:/x", "is it a path? a/b?c=d, or 10:/x"),
    ],
)
def test_errors_say_nothing_secret_whoever_wrote_their_text(said: str, shown: str) -> None:
    assert str(SRFlowError(said)) == shown


@pytest.mark.parametrize("part", ["a.", "http://", "http://a?", ":", "http://a@", "aa:/", "?", "http://a?:"])
def test_a_long_text_takes_no_time(part: str) -> None:
    begun = time.process_time()
    without_secrets(part * (400_000 // len(part)))
    assert time.process_time() - begun < 4
