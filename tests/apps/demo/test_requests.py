"""What srflow-demo lets in, and what it keeps and gives: requests of strangers, of other pages, and
hostile ones."""

from __future__ import annotations

import os
import socket
import stat
from urllib.parse import quote

import pytest

from .served import served
from .visitor import CONTROLS, Visitor, wait_until

pytest.importorskip("starlette", reason='pip install "srflow-sdk[demo]"')
pytest.importorskip("uvicorn", reason='pip install "srflow-sdk[demo]"')

ROUTES = [
    ("GET", "/"),
    ("GET", "/static/page.js"),
    ("POST", "/pages"),
    ("POST", "/pages/{page}/alive"),
    ("POST", "/pages/{page}/close"),
    ("PUT", "/pages/{page}/pictures/enlarge"),
    ("DELETE", "/pages/{page}/pictures/enlarge"),
    ("POST", "/pages/{page}/show"),
    ("POST", "/pages/{page}/samples"),
    ("POST", "/pages/{page}/work/enlarge"),
    ("GET", "/pages/{page}/work/enlarge"),
    ("DELETE", "/pages/{page}/work/enlarge"),
    ("GET", "/pages/{page}/files/enlarge"),
]


@pytest.fixture(scope="module")
def server(tiny_bundle, tmp_path_factory):
    with served(
        tmp_path_factory.mktemp("demo"), "--model", tiny_bundle, "--max-upload", "100k"
    ) as running:
        yield running


@pytest.fixture
def visitor(server):
    visitor = Visitor(server.url).open()
    yield visitor
    visitor.of_page("POST", "close")
    wait_until(lambda: not server.files())


@pytest.fixture
def photo_bytes(uploaded) -> bytes:
    return uploaded.read_bytes()


def test_the_printed_address_opens_the_page_and_the_cookie_keeps_it_open(server) -> None:
    visitor = Visitor(server.url)
    entered = visitor.enter()
    assert entered.status == 200
    assert b"srflow-demo" in entered.body
    assert entered.headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict; Path=/")
    assert visitor.ask("GET", "/").status == 200
    assert "set-cookie" not in visitor.ask("GET", "/").headers
    assert server.url.partition("=")[2] not in visitor.cookie
    elsewhere = {"Sec-Fetch-Site": "cross-site"}  # such as a link in a mail
    assert Visitor(server.url).ask("GET", f"/?{visitor.query}", headers=elsewhere).status == 200


def test_cookies_of_other_ports_do_not_lock_the_visitor_out(visitor) -> None:
    for other in ('x={"a": 1}', "a[b]=c", "foo", "expires=1; path", 'x="un', "a=b c", "\xe9=1"):
        for cookies in (f"{other}; {visitor.cookie}", f"{other};{visitor.cookie};{other}"):
            assert visitor.ask("GET", "/", headers={"Cookie": cookies}).status == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_token_nothing_is_given(server, visitor, method, path) -> None:
    place = path.format(page=visitor.page)
    stranger = Visitor(server.origin)
    name = visitor.cookie.partition("=")[0]
    for headers in (
        {},
        {"Cookie": f"{name}=0"},
        {"Cookie": f"{name}="},
        {"Cookie": "a" * 3000},
        {"Cookie": ';="'},
    ):
        refused = stranger.ask(method, place, headers=headers)
        assert refused.status == 403
        assert refused.body.decode().splitlines() == [
            "This address lacks its token. Open the whole address that srflow-demo printed in its "
            "terminal."
        ]
    for query in ("token=", "token=0", f"token={'0' * 43}", "Token=1", "token[]=1", "token=%00%ff"):
        assert stranger.ask(method, f"{place}?{query}").status == 403


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/pages/",
            "/static/",
            "/static/page.html",
            "/static/routes.py",
            "/static/..%2froutes.py",
            "/static/../x",
        ),
        *(
            "/docs",
            "/openapi.json",
            "/config",
            "/gradio_api/upload",
            "/gradio_api/file=/etc/passwd",
            "//",
            "/.env",
        ),
        *(
            "/file=http://127.0.0.1:1/",
            "/etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/favicon.ico",
            "/pages/x",
        ),
    ],
)
def test_there_are_no_other_routes(visitor, path) -> None:
    assert visitor.ask("GET", path).status == 404
    for method in ("POST", "PUT", "DELETE"):
        assert visitor.ask(method, path).status in (404, 405)


def test_the_page_may_load_nothing_from_elsewhere_and_run_no_inline_script(visitor) -> None:
    page = visitor.ask("GET", "/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    )
    assert "unsafe" not in policy
    assert "http" not in policy
    assert b"http" not in page.body
    assert page.headers["cache-control"] == "no-store"


def test_other_names_of_this_machine_are_refused(server, visitor) -> None:
    port = visitor.port
    for good in (f"localhost:{port}", f"LOCALHOST:{port}", "127.0.0.1"):
        assert visitor.ask("GET", "/", headers={"Host": good}).status == 200
    for bad in (
        "attacker.example",
        "127.0.0.1.attacker.example",
        "192.168.1.5",
        "[::1]",
        "",
        "x" * 999,
    ):
        for ask in (visitor, Visitor(server.url)):
            assert ask.ask("GET", f"/?{ask.query}", headers={"Host": f"{bad}:{port}"}).status == 421


def test_where_other_machines_may_ask_names_are_checked_too(tiny_bundle, tmp_path) -> None:
    # A page elsewhere whose name was pointed at this machine sends its own name.
    options = ("--model", tiny_bundle, "--host", "0.0.0.0", "--allow-host", "Lab.example")
    with served(tmp_path / "demo", *options) as running:
        visitor = Visitor(running.url).open()
        for host, status in (
            *(("127.0.0.1", 200), ("localhost", 200), ("lab.example", 200), ("LAB.example", 200)),
            *(
                ("attacker.example", 421),
                ("0.0.0.0", 421),
                ("10.0.0.1", 421),
                ("evil-lab.example", 421),
            ),
        ):
            assert (
                visitor.ask("GET", "/", headers={"Host": f"{host}:{visitor.port}"}).status == status
            )
        visitor.host = "127.0.0.2"  # another address of this machine
        assert visitor.ask("GET", "/", headers={"Host": f"127.0.0.2:{visitor.port}"}).status == 200
        assert visitor.ask("GET", "/", headers={"Host": f"127.0.0.1:{visitor.port}"}).status == 421
    warning = running.process.stderr.read()
    assert (
        "warning: other machines reach this page at 0.0.0.0; whoever has its address can use it"
        in warning
    )


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {"Origin": origin}
            for origin in (
                "http://attacker.example",
                "null",
                "http://127.0.0.1:1",
                "http://127.0.0.1",
            )
        ),
        # same-site: another port
        *({"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "nonsense")),
    ],
    ids=str,
)
def test_what_a_page_elsewhere_sends_is_refused_and_nothing_is_kept(
    server, visitor, photo_bytes, headers
) -> None:
    place = f"/pages/{visitor.page}/pictures/enlarge?name=sent.png"
    # Without a body, which the server would not read: a reset of the connection could overtake its
    # answer.
    assert visitor.ask("PUT", place, headers=headers).status == 403
    assert visitor.ask("GET", "/", headers=headers).status == 403
    assert server.files() == []
    own = {"Origin": server.origin, "Sec-Fetch-Site": "same-origin"}
    assert visitor.ask("PUT", place, photo_bytes, own).status == 200
    assert [path.name for path in server.files()] == ["sent.png"]


def test_it_listens_on_the_loopback_address_alone(server) -> None:
    assert server.origin.startswith("http://127.0.0.1:")
    with socket.socket() as other:  # 127.0.0.2 is this machine, too, but not what was asked for
        assert other.connect_ex(("127.0.0.2", Visitor(server.url).port)) != 0


@pytest.mark.not_on_windows("POSIX permissions")
def test_no_other_user_may_look_into_the_files(server, visitor, photo_bytes) -> None:
    visitor.send("enlarge", "photo.png", photo_bytes)
    (root,) = (server.connections.parent / "tmp").iterdir()
    (page,) = root.iterdir()
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (root, page)] == [0o700, 0o700]


def test_an_upload_that_is_too_large_is_refused_and_nothing_is_kept(server, visitor) -> None:
    for body in (iter([b"0" * 50_000] * 4), b"0" * 200_000):  # the first is sent in chunks
        refused = visitor.send("enlarge", "large.png", body)
        assert refused.status == 413
        assert (
            refused.json()["error"]
            == "large.png is larger than the limit of 0.1 MB; choose a smaller one"
        )
    connection = visitor.begin("enlarge", b"", length=1_500_000_000)  # before it is sent
    assert connection.getresponse().status == 413
    connection.close()
    assert server.files() == []


@pytest.mark.parametrize("path", ["show", "samples", "work/enlarge"])
def test_what_a_page_says_is_small_and_an_object(visitor, path) -> None:
    for body in (b"", b"[]", b"1", b"{", b"\xff", b"[" * 9000, b'"' + b"x" * 9000 + b'"'):
        answer = visitor.of_page("POST", path, body)
        assert answer.status == 400, body
        assert answer.json()["error"].startswith("the request is not a JSON object")
    assert visitor.of_page("POST", path, b" " * 16_385).status == 413
    assert visitor.of_page("POST", path, {**CONTROLS, "side": 10**6}).status == 400


def test_of_an_upload_that_is_cut_off_nothing_is_kept(server, visitor, photo_bytes) -> None:
    before = set(server.files())
    slow = visitor.begin("enlarge", b"x" * 50_000, length=60_000)
    wait_until(
        lambda: [path.stat().st_size for path in server.files() if path not in before] == [50_000]
    )
    slow.close()  # as the page does when another picture is chosen
    assert visitor.send("enlarge", "another.png", photo_bytes).status == 200
    wait_until(
        lambda: [path.name for path in server.files() if path not in before] == ["another.png"]
    )


@pytest.mark.parametrize(
    "name", ["../../../photo.png", "/etc/photo.png", "..", "%2e%2e/a", "a\0b", "C:\\x.png"]
)
def test_a_name_of_a_file_is_never_a_path(server, visitor, photo_bytes, name) -> None:
    assert visitor.send("enlarge", name, photo_bytes).status == 200
    (path,) = server.files()
    # root, page, folder, name
    assert len(path.relative_to(server.connections.parent / "tmp").parts) == 4
    assert "/" not in path.name


@pytest.mark.not_on_windows("links and FIFOs")
def test_files_of_the_machine_are_not_given(server, visitor, tmp_path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # to open it would wait for ever
    paths = (
        "/etc/passwd",
        __file__,
        str(fifo),
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
    )
    for path in (
        place
        for one in paths
        for place in (one, quote(one, safe=""), quote(quote(one, safe=""), safe=""))
    ):
        for method, route in (
            ("GET", "files"),
            ("PUT", "pictures"),
            ("DELETE", "pictures"),
            ("POST", "work"),
        ):
            assert visitor.of_page(
                method, f"{route}/{path}", b"{}" if method != "GET" else None
            ).status in (404, 405)
        assert visitor.ask("GET", f"/static/{path}").status == 404
        said = {**CONTROLS, "photo": path, "path": path, "meta": {"_type": "gradio.FileData"}}
        assert visitor.of_page("POST", "show", said).status == 400
        assert visitor.of_page("POST", "show", {**CONTROLS, "tau": {"path": path}}).status == 400
    assert server.connected_to() == []


def test_one_page_cannot_name_see_or_delete_what_another_has(server, visitor, photo_bytes) -> None:
    visitor.send("enlarge", "own.png", photo_bytes)
    assert visitor.finish("enlarge", **CONTROLS)["state"] == "done"
    got = visitor.of_page("GET", "files/enlarge")
    assert (got.status, got.headers["content-type"]) == (200, "application/octet-stream")
    assert got.headers["content-disposition"] == 'attachment; filename="own_x4.png"'
    assert visitor.of_page("GET", "files/%C3%A9").status == 404
    other = Visitor(server.url).open()
    assert other.of_page("GET", "files/enlarge").status == 404
    assert other.of_page("POST", "show", CONTROLS).json() == {
        "error": "there is no photo yet; choose one first"
    }
    held = len(server.files())
    for name in ("enlarge", "own.png", f"..%2f{visitor.page}"):
        other.of_page("DELETE", f"pictures/{name}")
    other.of_page("POST", "close")
    wait_until(lambda: len(server.files()) == held)
    assert visitor.of_page("GET", "files/enlarge").status == 200
    assert visitor.of_page("POST", "show", CONTROLS).status == 200
    assert server.connected_to() == []


def test_without_an_inverter_there_is_nothing_to_restore(visitor, photo_bytes) -> None:
    assert visitor.send("restore", "a.png", photo_bytes).status == 404
    assert visitor.of_page("POST", "work/restore", {}).status == 404


def test_a_broken_picture_and_a_page_that_is_gone_are_errors_in_words(server) -> None:
    visitor = Visitor(server.url).open()
    held = server.files()
    broken = visitor.send("enlarge", "broken.png", b"not a picture")
    assert (broken.status, broken.json()["error"][:10]) == (400, "broken.png")
    assert server.files() == held
    visitor.of_page("POST", "close")
    gone = visitor.of_page("POST", "show", CONTROLS)
    assert gone.status == 410
    assert gone.json()["error"].endswith("its pictures were deleted; choose them again")
