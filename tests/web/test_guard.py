"""Who may ask the page and the API, and what browsers are told to allow."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Web, catching, deliver, get
from support import PATIENCE

pytest.importorskip("starlette")
import httpx
from starlette.testclient import TestClient

from mailhandlers import Inbox
from mailhandlers.web.app import create_app
from mailhandlers.web.settings import WebSettings

BELOW = WebSettings(path="/mail")
TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with catching(tmp_path / "inbox") as catcher:
        deliver(catcher)
    return tmp_path / "inbox"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    with TestClient(create_app(store), base_url="http://localhost:8026") as client:
        yield client


@pytest.fixture
def guarded(store: Path) -> Iterator[TestClient]:
    app = create_app(store, token=TOKEN)
    with TestClient(app, base_url="http://mail:8026", follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8026", "127.0.0.1:8026", "[::1]:8026", "app.localhost"]
)
def test_names_of_this_computer(client: TestClient, host: str) -> None:
    assert client.get("/api/messages", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:8026", "192.0.2.1", "", "[::1",
     "localhost@evil.example", "127.0.0.1.evil.example", "0.0.0.0:8026"],
)  # fmt: skip
def test_a_name_that_dns_rebinding_would_use(client: TestClient, host: str) -> None:
    for path in ("/", "/api/messages", "/api/openapi.json", "/static/style.css"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 421, path
        assert "hello" not in answer.text


ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    },
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_pages_of_other_sites_delete_nothing(
    client: TestClient, store: Path, headers: dict[str, str]
) -> None:
    assert client.delete("/api/messages", headers=headers).status_code == 403
    assert client.post("/clear", headers=headers).status_code == 403
    assert len(Inbox(store)) == 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost:8026"}],
)
def test_who_may_delete(client: TestClient, store: Path, headers: dict[str, str]) -> None:
    assert client.delete("/api/messages", headers=headers).status_code == 204
    assert len(Inbox(store)) == 0


def test_pages_of_other_sites_may_link_here_and_embed_nothing(client: TestClient) -> None:
    linked = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert client.get("/", headers=linked).status_code == 200
    for mode, dest in [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")]:
        headers = linked | {"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert client.get("/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path", ["messages", "messages/latest?timeout=9", "openapi.json", "nothing", "events"]
)
def test_what_is_navigated_to_from_elsewhere_is_never_the_api(
    client: TestClient, path: str
) -> None:
    for site in ("cross-site", "same-site"):
        headers = {
            "Sec-Fetch-Site": site,
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        }
        for spelled in (f"/api/{path}", f"/%61pi/{path}"):
            answer = client.get(spelled, headers=headers)
            assert answer.status_code == 403
            assert "hello" not in answer.text
    # Typed into the address bar, and a link of our own pages.
    headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for more, status in (
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Referer": "http://localhost:8026/"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 403),  # a mail's, in a page of ours
    ):
        assert client.get("/api/messages", headers=headers | more).status_code == status


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_person_is_told_of_an_error_by_a_page(
    client: TestClient, guarded: TestClient
) -> None:
    there = {**BROWSER, "Host": "<b>evil.example"}
    for asked, path, headers, status, text in (
        (client, "/nothing", BROWSER, 404, "there is nothing at this address"),
        (client, "/?nothing=1", BROWSER, 422, "nothing: there is no such parameter here"),
        (client, "/", there, 421, "this is no name of this computer: &#39;&lt;b&gt;evil"),
        (guarded, "/", BROWSER, 401, "with any name and the token as the password"),
    ):
        answer = asked.get(path, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert text in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert ('<a href="./">' in answer.text) == (status in (404, 422))
        # Programs are told as before.
        told = asked.get(path, headers=headers | {"Accept": "*/*"})
        assert told.json()["status"] == status
        assert "www-authenticate" in answer.headers or status != 401
    assert client.get("/api/nothing", headers=BROWSER).json()["status"] == 404
    assert client.get("/static/nothing", headers=BROWSER).text.count('<a href="../">') == 1


def test_a_token_is_asked_of_everybody(guarded: TestClient) -> None:
    for path in ("/", "/api/messages", "/api/events", "/static/page.js", "/nothing"):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Cookie": "mailhandlers-8026=x"},
        ):
            answer = guarded.get(path, headers=headers)
            assert answer.status_code == 401
            challenges = answer.headers.get_list("www-authenticate")
            assert challenges == ['Basic realm="mailhandlers"', "Bearer"]
    assert guarded.get("/?token=wrong").status_code == 401
    assert guarded.get("/?token=").status_code == 401
    assert guarded.delete("/api/messages").status_code == 401


def test_programs_send_the_token_as_a_header(guarded: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/api/messages", headers=headers).status_code == 200
    assert guarded.get(f"/api/messages?token={TOKEN}").status_code == 200


def test_a_browser_opens_the_printed_address_once(guarded: TestClient) -> None:
    answer = guarded.get(f"/?q=hello&token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "./?q=hello"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert guarded.get(answer.headers["location"]).status_code == 200
    # No address of another host, whatever the path looks like.
    answer = guarded.get(f"http://mail:8026//evil.example/?token={TOKEN}")
    assert answer.status_code != 303 or answer.headers["location"].startswith("./")


@pytest.mark.parametrize(
    "others", ['a={"x":1}', "a=b c", "foo", "=", "", "grüße=€", 'a="', "a=b=c", "\xff\xfe=\x80",
               "mailhandlers-8026=of-an-earlier-start"],
)  # fmt: skip
def test_the_cookie_is_found_among_those_of_other_servers(
    guarded: TestClient, others: str
) -> None:
    ours = f"mailhandlers-8026={TOKEN}"
    for cookie in (f"{others}; {ours}", f"{ours}; {others}", f"{others};{ours};{others}"):
        answer = guarded.get("/api/messages", headers={"Cookie": cookie.encode()})
        assert answer.status_code == 200, cookie
    wrong = f"{others}; x{ours}; mailhandlers-8026=x{TOKEN}"
    answer = guarded.get("/api/messages", headers={"Cookie": wrong.encode()})
    assert answer.status_code == 401


@pytest.mark.parametrize("user", ["eva", "", "Jürgen"])
def test_the_token_is_a_password_as_well(guarded: TestClient, user: str) -> None:
    assert guarded.get("/api/messages", auth=(user, TOKEN)).status_code == 200
    assert guarded.get("/", auth=(user, TOKEN)).status_code == 200
    assert guarded.get("/", auth=(user, "wrong")).status_code == 401


@pytest.mark.parametrize("login", ["", "x", "====", "\xff", "Og==", "/w==", "//86eA=="])
def test_a_login_that_is_none(guarded: TestClient, login: str) -> None:
    headers = {"Authorization": f"Basic {login}".encode("latin-1")}
    assert guarded.get("/", headers=headers).status_code == 401


def test_a_login_deletes_nothing_for_pages_of_other_sites(
    guarded: TestClient, store: Path
) -> None:
    # A browser sends it with what they ask, too.
    for headers in ELSEWHERE:
        answer = guarded.post("/clear", headers=headers, auth=("eva", TOKEN))
        assert answer.status_code == 403
    assert len(Inbox(store)) == 1


PROBES = [{"Host": "10.1.2.3:8026"}, {"Host": "evil.example"}, {}]


@pytest.mark.parametrize("headers", PROBES)
def test_a_probe_needs_no_name_and_no_token(
    client: TestClient, guarded: TestClient, headers: dict[str, str]
) -> None:
    for each in (client, guarded):
        answer = each.get("/api/health", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert each.head("/api/health", headers=headers).status_code == 200
        assert each.get("/api/health", headers=headers | ELSEWHERE[0]).status_code == 403
        assert each.get("/api/health/", headers=headers).status_code in (401, 404, 421)
        assert each.get("/api/health?x=1", headers=headers).status_code == 422
        assert each.delete("/api/health", headers=headers).status_code in (401, 405, 421)


def test_a_probe_hears_that_the_messages_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret-name").write_text("these are my notes\n")
    with TestClient(create_app(tmp_path / "secret-name")) as client:
        answer = client.get("/api/health", headers={"Host": "10.1.2.3"})
        assert answer.status_code == 503
        assert "secret" not in answer.text


def test_a_proxy_asks_by_the_names_that_it_was_given(store: Path) -> None:
    app = create_app(
        store, settings=WebSettings(host_names=("mail.example.com", "other.example"))
    )
    with TestClient(app) as client:
        for host, status in [
            ("mail.example.com", 200),
            ("MAIL.example.com:443", 200),
            ("other.example", 200),
            ("localhost:8026", 200),
            ("x.mail.example.com", 421),
            ("mail.example.com.evil.example", 421),
            ("mail.example.com@evil.example", 421),
        ]:
            assert client.get("/", headers={"Host": host}).status_code == status, host
        asked = {"Host": "mail.example.com"}
        for origin, status in [
            ("https://evil.example", 403),
            ("https://localhost:8026", 403),
            ("https://mail.example.com", 303),
        ]:
            headers = asked | {"Origin": origin}
            answer = client.post("/clear", headers=headers, follow_redirects=False)
            assert answer.status_code == status, origin


@pytest.mark.parametrize("prefix", ["", "/mail"])
def test_a_proxy_may_leave_its_path_or_take_it_away(store: Path, prefix: str) -> None:
    with TestClient(create_app(store, settings=BELOW), base_url="http://localhost") as client:
        page = client.get(f"{prefix}/").text
        name = client.get(f"{prefix}/api/messages").json()[0]["id"]
        assert '<base href="./">' in page
        assert f'href="messages/{name}"' in page
        assert '<base href="../">' in client.get(f"{prefix}/messages/{name}").text
        assert client.get(f"{prefix}/static/page.js").status_code == 200
        assert client.get(f"{prefix}/rows?before=gone").status_code == 404
        answer = client.get(f"{prefix}/?before=1700000000.gone", follow_redirects=False)
        assert answer.headers["location"] == "./"
        api = client.get(f"{prefix}/api/openapi.json").json()
        assert api["servers"] == [{"url": "/mail"}]
        assert client.get(f"{prefix}{prefix}/").status_code == (404 if prefix else 200)
        assert client.get("/mailbox/").status_code == 404
        answer = client.get("/mail", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "./mail/")
        for headers in ELSEWHERE:  # as strictly as without it
            assert client.post(f"{prefix}/clear", headers=headers).status_code == 403
        headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "document"}
        assert client.get(f"{prefix}/api/messages", headers=headers).status_code == 403


def test_a_cookie_is_for_the_path_of_the_proxy(store: Path) -> None:
    app = create_app(store, settings=BELOW, token=TOKEN)
    with TestClient(app, base_url="https://mail", follow_redirects=False) as client:
        for path in ("/mail", "/mail/", "/mail/messages/x", "/mail//evil.example", "/mail/a:b"):
            client.cookies.clear()
            answer = client.get(f"https://mail{path}?token={TOKEN}&q=1")
            assert answer.status_code == 303
            assert answer.headers["location"] == f"./{path.rpartition('/')[2]}?q=1"
            assert "; Path=/mail;" in answer.headers["set-cookie"]
        assert client.get("https://mail/mail/").status_code == 200
        assert client.get("https://mail/").status_code == 401


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "[::]"])
def test_an_address_that_nobody_can_open_is_not_printed(store: Path, wildcard: str) -> None:
    with Web(store, f"{wildcard}:0") as web:
        assert re.match(r"http://localhost:\d+/\?token=", web.address)


def test_what_every_answer_tells_a_browser(client: TestClient) -> None:
    name = client.get("/api/messages/latest").json()["id"]
    for path in ("/", f"/messages/{name}", "/api/messages", "/static/page.js", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "same-origin"
    frame = client.get(f"/api/messages/{name}/html").headers
    assert "sandbox allow-popups" in frame["content-security-policy"]
    assert "allow-scripts" not in frame["content-security-policy"]
    assert "allow-same-origin" not in frame["content-security-policy"]
    assert frame["referrer-policy"] == "no-referrer"


def test_pages_have_no_script_or_style_of_their_own(client: TestClient) -> None:
    name = client.get("/api/messages/latest").json()["id"]
    for view in ("", "?view=text", "?view=source", "?view=headers"):
        page = client.get(f"/messages/{name}{view}").text
        assert (
            re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:", page) == []
        )
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert re.match(r"\.\.?/|[a-z]+[/?]|clear$", address), address


def test_loopback_needs_no_token_and_ends_quietly(store: Path) -> None:
    with Web(store) as web:
        assert "token" not in web.address
        assert web.line == f"mailhandlers: {store} is shown at {web.address}\n"
        with httpx.stream("GET", f"{web.url}/api/events", timeout=PATIENCE):
            assert web.stop() == 0


def test_beyond_loopback_the_printed_address_has_a_token(store: Path) -> None:
    with Web(store, "0.0.0.0:0") as web, Web(store, "0.0.0.0:0") as other:
        local = f"http://127.0.0.1:{web.port}"
        assert get(f"{local}/").status_code == 401
        query = web.address.partition("?")[2]
        assert re.fullmatch(r"token=[\w-]{43}", query)
        assert query not in other.address
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as client:
            assert client.get(f"{local}/?{query}").status_code == 200
            assert client.get(f"{local}/api/messages").status_code == 200


def test_localhost_is_ipv6_as_well(store: Path) -> None:
    with Web(store, "localhost:0") as web:
        families = {family for family, *_ in socket.getaddrinfo("localhost", 0)}
        hosts = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "[::1]"}
        for family in families:
            assert get(f"http://{hosts[family]}:{web.port}/").status_code == 200
