"""URLs without their secrets: one form, in which a place is shown, compared and recorded."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from srflow_apps.batch.plan import identity
from srflow_apps.batch.storage import UrlPath, as_path
from srflow_sdk.errors import ArgumentError, SRFlowError

SIGNED = (
    "https://somebody:s3cr3t@Store.example:443/photos/a.png?X-Amz-Signature=s3cr3t%2F1&x=/y#s3cr3t"
)


@pytest.mark.not_on_windows("URLs are refused there")
def test_folders_and_names_are_taken_of_urls_as_of_paths() -> None:
    url = as_path("S3A://bucket/photos//a.png")
    assert isinstance(url, UrlPath)
    assert str(url) == "s3://bucket/photos/a.png"
    assert (url.name, url.stem, url.suffix, url.scheme) == ("a.png", "a", ".png", "s3")
    for other in (
        url.with_name("b.png"),
        url.parent / "b.png",
        pickle.loads(pickle.dumps(url.parent)) / "b.png",
    ):
        assert str(other) == "s3://bucket/photos/b.png"
        assert other == as_path("s3://bucket/photos/b.png") != url
    assert identity(url) == identity(as_path("s3://bucket/photos/a.png"))
    for text in ("file:///photos/a.png", "local:///photos/a.png", "/photos/a.png"):
        assert as_path(text) == Path("/photos/a.png")


@pytest.mark.not_on_windows("URLs are refused there")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ssh://somebody@host:2222/a.png", "sftp://somebody@host:2222/a.png"),
        ("s3://bucket/what?.png", "s3://bucket/what?.png"),
        (
            "abfss://container@account.dfs.core.windows.net/a.png",
            "abfs://container@account.dfs.core.windows.net/a.png",
        ),
        (
            "s3://arn:aws:s3:eu-west-1:1:accesspoint/a.png",
            "s3://arn:aws:s3:eu-west-1:1:accesspoint/a.png",
        ),
    ],
)
def test_a_place_has_one_form(text: str, shown: str) -> None:
    assert str(as_path(text)) == shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("s3:///a.png", "s3:///a.png names no bucket or host; write s3://bucket/folder"),
        ("s3://", "s3:// names no place; write s3://bucket/folder"),
        ("https://somebody:s3/cr3t@host/a.png", "https://…: what follows its colon is no port"),
        ("s3://KEY:s3/cr3t@bucket/a.png", "s3://…: what follows its colon is no port"),
        ("sftp://KEY:s3cr3t@bucket/a.png", "sftp://…: a URL has no password here"),
        ("https://s3cr3t@host/a.png", "https://…: a URL has no password here"),
        (SIGNED, "https://…: a URL has no password here"),
        (
            SIGNED.replace("somebody:s3cr3t@", ""),
            "https://Store.example:443/photos/a.png: a URL has no query here",
        ),
        ("s3://bucket/a.png?X-Amz-Signature=s3cr3t", "s3://bucket/a.png: a URL has no query here"),
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
        (
            "see (https://h/a?sig=s3cr3t), or sftp://u:s3cr3t@h/b.",
            "see (https://h/a), or sftp://u@h/b.",
        ),
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
