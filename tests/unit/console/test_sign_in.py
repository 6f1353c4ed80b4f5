"""Signing in with links, and the checks of cookies, forms and roles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from serving import Served, read_answer, serving
from sqlalchemy import select, update
from visiting import SAME_ORIGIN, Visitor, cookie_name, hidden_fields, new_link, text_of, visiting, visitor_at

from receiver.api.tokens import Scope
from receiver.sessions.links import LINK_LIFETIME, Links
from receiver.sessions.roles import Role
from receiver.sessions.tables import SESSIONS

PAGES = ("/", "/deliveries", "/deliveries.csv", "/deliveries/1", "/deliveries/1/body", "/deliveries/1/replay")


def form_token(visitor: Visitor) -> str:
    """The token of the form to sign out, at the top of each page."""
    return hidden_fields(visitor.page("/search").partition("</header>")[0])["form_token"]


@pytest.mark.parametrize("path", PAGES)
def test_without_a_session_no_page_is_shown(stranger: Visitor, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "hookmirror console-link" in answer.text


def test_a_page_without_a_session_has_no_bar_for_time_and_search(stranger: Visitor, viewer: Visitor) -> None:
    assert ['class="bar"' in visitor.get("/").text for visitor in (stranger, viewer)] == [False, True]


def test_opening_a_link_does_not_use_it_and_its_button_signs_in_once(stranger: Visitor) -> None:
    link = new_link(Role.VIEWER, "eve")
    for _ in range(2):
        page = stranger.page("/sign-in", link=link, next="/deliveries")
        assert "Sign in as eve" in text_of(page)
    answer = stranger.post("/sign-in", **hidden_fields(page))
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/deliveries")
    assert "eve , viewer" in text_of(stranger.page("/"))
    with visitor_at(stranger.base, role=None) as other:
        again = other.sign_in(link=link)
    assert (again.status_code, "was used before" in again.text) == (401, True)


def test_a_link_pressed_again_in_the_browser_that_used_it_leads_to_the_page_and_begins_no_other_session(
    stranger: Visitor, shown: Served
) -> None:
    link = new_link(Role.VIEWER, "eve")
    assert stranger.sign_in(link=link).status_code == 303
    sessions = shown.count("sessions")
    cookie = stranger.client.cookies[cookie_name(stranger)]
    again = stranger.post("/sign-in", link=link, next="/deliveries")
    assert (again.status_code, again.headers["location"]) == (303, "/console/deliveries")
    assert shown.count("sessions") == sessions
    assert stranger.client.cookies[cookie_name(stranger)] == cookie
    assert "eve , viewer" in text_of(stranger.page("/"))


def test_a_link_s_page_sends_no_referrer_to_others_and_the_origin_to_us(
    stranger: Visitor,
) -> None:
    # With `no-referrer`, the form's origin would be `null`. Over plain HTTP, browsers send nothing else to check.
    assert stranger.get("/sign-in", link=new_link()).headers["referrer-policy"] == "strict-origin"


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("", "not signed in"),
        ("x", "not made by this server"),
        (new_link()[:-3], "not made by this server"),
        (Links(["another key of 16"]).issue("eve", Role.OPERATOR, now=datetime.now(UTC)), "not made by this server"),
        (new_link(now=datetime.now(UTC) - LINK_LIFETIME), "has expired"),
        ("\udcff\x00é" * 10, "not made by this server"),
        ("x" * 5_000, "not made by this server"),
    ],
)
def test_a_forged_cut_or_expired_link_is_refused_with_the_way_to_a_new_one(
    stranger: Visitor, link: str, why: str
) -> None:
    link = link.encode("utf-8", "replace").decode()
    for answer in (stranger.get("/sign-in", link=link), stranger.post("/sign-in", link=link)):
        assert answer.status_code == 401
        assert why in text_of(answer.text) or why == "not signed in"
        assert "hookmirror console-link" in answer.text


@pytest.mark.parametrize(
    "page",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/console/",
        "/a\r\nb",
        "//[",
        "http://[",
    ],
)
def test_signing_in_leads_only_to_pages_of_the_console(stranger: Visitor, page: str) -> None:
    answer = stranger.post("/sign-in", link=new_link(), next=page)
    assert answer.headers["location"] == "/console/"


def test_signing_in_leads_to_a_page_whose_address_has_letters_of_any_script(stranger: Visitor) -> None:
    answer = stranger.post("/sign-in", link=new_link(), next="/search?q=Käse ☃%2F&x=[1]")
    assert answer.headers["location"] == "/console/search?q=K%C3%A4se%20%E2%98%83%2F&x=[1]"


@pytest.mark.parametrize(
    ("asked", "then"),
    [
        ("/runs?limit=5", "/console/runs?limit=5"),
        ("/search?q=K%C3%A4se+%26+%25", "/console/search?q=K%C3%A4se+%26+%25"),
        ("/deliveries.csv?state=dead", "/console/deliveries?state=dead"),
        ("/deliveries/1/body", "/console/deliveries/1"),
        ("/runs/7?done=start_run&when=1&said=forged&seal=x", "/console/runs/7"),
        (f"/search?q={'x' * 3_600}", "/console/search"),
        (f"/search?q={'%C3%A4' * 400}", "/console/search"),
        (f"/mirror/products/pim/{'x' * 3_600}", "/console/"),
        ("/mirror/products/pim/50%2541%3F%23", "/console/mirror/products/pim/50%2541%3F%23"),
        ("/mirror/products/pim/list.csv", "/console/mirror/products/pim/list.csv"),
        ("/mirror/products/pim/a/body", "/console/mirror/products/pim/a/body"),
        ("/mirror/products/pim/%7Bid%7D", "/console/mirror/products/pim/%7Bid%7D"),
        ("/live?seen=x", "/console/"),
        ("/sign-in", "/console/"),
        ("/%5Cevil.example", "/console/"),
    ],
)
def test_the_browser_comes_back_to_the_page_that_was_asked_for_without_a_session(
    stranger: Visitor, asked: str, then: str
) -> None:
    assert stranger.get(asked).status_code in (401, 404)
    form = hidden_fields(stranger.page("/sign-in", link=new_link()))
    assert stranger.post("/sign-in", **form).headers["location"] == then
    form = hidden_fields(stranger.page("/sign-in", link=new_link()))
    assert form["next"] == "/", "it comes back once"


@pytest.mark.parametrize("page", ["//evil.example", "https://evil.example/", "%0d%0aX: y", "/console/"])
def test_a_forged_page_to_come_back_to_leads_to_the_overview(stranger: Visitor, page: str) -> None:
    stranger.client.cookies.set(f"{cookie_name(stranger)}-next", quote(page, safe=""))
    assert hidden_fields(stranger.page("/sign-in", link=new_link()))["next"] == "/"


def test_below_the_path_of_a_proxy_the_browser_comes_back_to_the_page_that_was_asked_for(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None, root_path="/pim") as (_, visitor):
        visitor.get("/runs?limit=5")
        form = hidden_fields(visitor.page("/sign-in", link=new_link()))
        assert form["next"] == "/runs?limit=5"
        assert visitor.post("/sign-in", **form).headers["location"] == "/pim/console/runs?limit=5"


def test_the_cookie_with_the_page_to_come_back_to_is_one_that_browsers_keep(stranger: Visitor) -> None:
    for length in range(0, 1_000, 20):
        answer = stranger.get(f"/search?q={'%C3%A4' * length}")
        name_and_page = answer.headers["set-cookie"].partition(";")[0]
        assert len(name_and_page) <= 4_000


def test_a_pressed_form_that_is_too_long_to_keep_does_nothing_and_says_so(stranger: Visitor) -> None:
    answer = stranger.post("/runs/7/start", reason="ä" * 1_000)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "Nothing was done." in answer.text
    assert "copy what you typed before you sign in" in answer.text


def test_a_page_that_fetches_itself_does_not_displace_the_page_that_a_person_asked_for(stranger: Visitor) -> None:
    stranger.post("/runs/7/start", reason="typed text")
    own = stranger.get("/deliveries", {"HX-Request": "true"})
    assert "comes back to this page" not in own.text
    form = hidden_fields(stranger.page("/sign-in", link=new_link()))
    assert stranger.post("/sign-in", **form).headers["location"] == "/console/runs/7/start?reason=typed+text"


def test_a_form_of_another_site_leaves_no_page_to_come_back_to(stranger: Visitor) -> None:
    answer = stranger.post("/runs/7/start", {"Sec-Fetch-Site": "cross-site"}, reason="from elsewhere")
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_with_https_the_page_to_come_back_to_is_kept_over_https_only(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None, console_url="https://hooks.example") as (_, visitor):
        cookie = visitor.get("/runs", {"Host": "hooks.example"}).headers["set-cookie"]
    assert cookie.startswith("__Host-hookmirror-console-next=%2Fruns; Path=/; Max-Age=3600;")
    assert cookie.endswith("HttpOnly; SameSite=Lax; Secure")


@pytest.mark.parametrize("cookie", ["x", "x.y", "..", "é", "a" * 4_000, '"', "null"])
def test_a_forged_cookie_is_refused(stranger: Visitor, cookie: str) -> None:
    answer = stranger.client.get("/", headers=[(b"Cookie", f"{cookie_name(stranger)}={cookie}".encode("latin-1"))])
    assert answer.status_code == 401


def test_the_cookie_is_limited_to_this_host_and_hidden_from_scripts(stranger: Visitor) -> None:
    cookie = stranger.sign_in().headers["set-cookie"]
    assert cookie.endswith("; Path=/; Max-Age=43199; HttpOnly; SameSite=Lax") or "Max-Age=43200" in cookie
    assert "Secure" not in cookie


def test_consoles_at_two_ports_of_one_host_sign_nobody_out_of_each_other(stranger: Visitor, tmp_path: Path) -> None:
    assert stranger.sign_in().status_code == 303
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None) as (_, elsewhere):
        # One browser, which sends its cookies to every port.
        elsewhere.client.cookies = stranger.client.cookies
        assert elsewhere.get("/").status_code == 401
        assert elsewhere.sign_in().status_code == 303
        assert [each.get("/").status_code for each in (elsewhere, stranger)] == [200, 200]
        assert elsewhere.post("/sign-out", form_token=form_token(elsewhere)).status_code == 303
        assert [each.get("/").status_code for each in (elsewhere, stranger)] == [401, 200]


def test_with_https_the_cookie_is_sent_over_https_only(tmp_path: Path) -> None:
    url = "https://hooks.example"
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None, console_url=url) as (_, visitor):
        cookie = visitor.client.post(
            "/sign-in", data={"link": new_link()}, headers=SAME_ORIGIN | {"Host": "hooks.example"}
        ).headers["set-cookie"]
    assert cookie.startswith("__Host-hookmirror-console=")
    assert cookie.endswith("HttpOnly; SameSite=Lax; Secure")


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(leaving: Visitor, stranger: Visitor) -> None:
    stranger.client.cookies.update(leaving.client.cookies)
    assert stranger.get("/").status_code == 200
    assert leaving.post("/sign-out", form_token=form_token(leaving)).headers["location"] == "/console/sign-in"
    assert stranger.get("/").status_code == 401


@pytest.mark.parametrize("whose", ["", "forged", "another's"])
def test_a_form_that_is_not_of_the_session_signs_nobody_out(operator: Visitor, leaving: Visitor, whose: str) -> None:
    answer = leaving.post("/sign-out", form_token=form_token(operator) if whose == "another's" else whose)
    assert (answer.status_code, "This form is not from your session" in answer.text) == (403, True)
    assert leaving.get("/").status_code == 200


def test_who_is_signed_out_already_is_led_to_the_sign_in_by_any_form(stranger: Visitor) -> None:
    assert stranger.post("/sign-out", form_token="kept for long").headers["location"] == "/console/sign-in"


def test_a_session_that_nobody_used_for_too_long_is_listed_no_more(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", console_idle_minutes=30) as (served, visitor):
        assert [each["name"] for each in served.get("/api/v1/sessions").json()["items"]] == ["ops-1"]
        with served.beside.write() as connection:
            idle = datetime.now(UTC) - timedelta(minutes=31)
            connection.execute(update(SESSIONS).values(seen_at=idle))
        assert served.get("/api/v1/sessions").json()["items"] == []
        assert visitor.get("/").status_code == 401


@pytest.mark.parametrize(
    ("path", "headers", "is_use"),
    [
        ("/deliveries", {}, True),
        ("/deliveries", {"HX-Request": "true"}, False),
        ("/live", {"Accept": "text/event-stream"}, False),
    ],
    ids=["person", "own fetch", "stream"],
)
def test_what_an_open_page_asks_by_itself_is_no_use_of_the_session(
    tmp_path: Path, path: str, headers: dict[str, str], is_use: bool
) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", console_idle_minutes=30) as (served, visitor):
        before = datetime.now(UTC) - timedelta(minutes=20)
        with served.beside.write() as connection:
            connection.execute(update(SESSIONS).values(seen_at=before))
        with visitor.client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
        with served.beside.read() as connection:
            assert (connection.execute(select(SESSIONS.c.seen_at)).scalar_one() > before) == is_use


@pytest.mark.parametrize(
    "settings", [{"console_session_hours": 0.00001}, {"console_idle_minutes": 0.0001}], ids=["lifetime", "idle"]
)
def test_a_session_expires(tmp_path: Path, settings: dict[str, float]) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", **settings) as (served, visitor):
        with served.beside.write() as connection:
            connection.exec_driver_sql("UPDATE sessions SET seen_at = '2026-01-01 00:00:00.000000'")
        assert visitor.get("/").status_code == 401


def test_a_session_whose_role_somebody_edited_by_hand_must_sign_in_again(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        with served.beside.write() as connection:
            connection.exec_driver_sql("UPDATE sessions SET role = 'admin'")
        answer = visitor.get("/deliveries")
        assert (answer.status_code, "console-link" in answer.text) == (401, True)
        assert served.get("/api/v1/sessions").json()["items"][0]["role"] == "admin"


def test_a_session_is_listed_and_ended_through_the_api_which_records_it(shown: Served, leaving: Visitor) -> None:
    newest = shown.get("/api/v1/sessions").json()["items"][0]
    assert (newest["name"], newest["role"]) == ("ops-1", "operator")
    assert shown.get(f"/api/v1/sessions/{newest['id']}/end", scope=Scope.OPERATE, method="POST").status_code == 200
    assert leaving.get("/").status_code == 401
    did = shown.get("/api/v1/actions").json()["items"]
    assert [each["what"] for each in did[:2]] == ["end session", "sign in"]


def test_the_database_does_not_contain_the_cookie(shown: Served, operator: Visitor) -> None:
    secret = operator.client.cookies[cookie_name(operator)].partition(".")[0]
    assert shown.count("sessions", f"id = '{secret}' OR link = '{secret}'") == 0


# ── forms ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "//127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    ],
)
def test_a_form_from_another_site_does_nothing(shown: Served, operator: Visitor, headers: dict[str, str]) -> None:
    delivery = shown.send("sigma", key="csrf")
    shown.ended(delivery)
    fields = hidden_fields(operator.page(f"/deliveries/{delivery}/replay"))
    for path in (f"/deliveries/{delivery}/replay", "/sign-out", "/sign-in"):
        answer = operator.post(path, headers, **fields)
        assert answer.status_code == 403
        assert "so nothing was done" in answer.text
    assert shown.delivery(delivery)["rounds"][-1]["number"] == 1


def test_a_browser_that_sends_only_an_origin_may_post(shown: Served, operator: Visitor) -> None:
    delivery = shown.send("sigma", key="origin")
    shown.ended(delivery)
    fields = hidden_fields(operator.page(f"/deliveries/{delivery}/replay"))
    answer = operator.post(f"/deliveries/{delivery}/replay", {"Origin": operator.base}, **fields)
    assert answer.status_code == 303


@pytest.mark.parametrize("token", ["", "x", "é"])
def test_a_form_without_the_token_of_its_session_does_nothing(shown: Served, operator: Visitor, token: str) -> None:
    delivery = shown.send("sigma", key="token")
    shown.ended(delivery)
    answer = operator.post(f"/deliveries/{delivery}/replay", form_token=token)
    assert (answer.status_code, "not from your session" in answer.text) == (403, True)


def test_the_token_of_another_session_does_nothing(shown: Served, operator: Visitor, stranger: Visitor) -> None:
    delivery = shown.send("sigma", key="other")
    shown.ended(delivery)
    fields = hidden_fields(operator.page(f"/deliveries/{delivery}/replay"))
    stranger.sign_in()
    assert stranger.post(f"/deliveries/{delivery}/replay", **fields).status_code == 403


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{}", "application/json", 400),
        (b"a=1&a=2", "application/x-www-form-urlencoded", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff=1", "application/x-www-form-urlencoded", 400),
        (b"a=1&" * 200, "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
def test_a_request_that_is_not_a_form_of_the_console_is_refused(
    operator: Visitor, content: bytes, media_type: str, status: int
) -> None:
    headers = SAME_ORIGIN | {"Content-Type": media_type}
    assert operator.client.post("/deliveries/1/replay", content=content, headers=headers).status_code == status


def test_a_form_that_does_not_arrive_in_time_is_refused_and_its_connection_ends(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None) as (served, _), served.connect() as connection:
        served.limit(body_timeout=0.2)
        lines = ["POST /console/sign-in HTTP/1.1", "Host: 127.0.0.1", "Sec-Fetch-Site: same-origin"]
        lines += ["Content-Type: application/x-www-form-urlencoded", "Content-Length: 100", "", "link="]
        connection.sendall("\r\n".join(lines).encode())
        status, content = read_answer(connection)
    assert (status, b"The body took too long to arrive." in content) == (503, True)


def test_a_double_click_is_one_action(shown: Served, operator: Visitor) -> None:
    delivery = shown.send("sigma", key="double")
    shown.ended(delivery)
    path = f"/deliveries/{delivery}/replay"
    fields = hidden_fields(operator.page(path)) | {"reason": "twice at once"}
    answers = [operator.post(path, **fields) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert shown.count("actions", "reason = 'twice at once'") == 1
    with shown.beside.read() as connection:
        row = connection.exec_driver_sql("SELECT who, via FROM actions WHERE reason = 'twice at once'").one()
    assert tuple(row) == ("ops-1", "console")


def test_a_refused_action_is_explained_on_the_form_with_the_typed_values(shown: Served, operator: Visitor) -> None:
    delivery = shown.send("sigma", key="short")
    shown.ended(delivery)
    answer = operator.press(f"/deliveries/{delivery}/replay", reason="no")
    assert answer.status_code == 400
    assert "The reason has 2 characters" in text_of(answer.text)
    assert 'value="no"' in answer.text


# ── roles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_viewer_sees_no_button_and_may_post_no_form(shown: Served, viewer: Visitor) -> None:
    delivery = shown.send("sigma", key="viewed")
    shown.ended(delivery)
    assert "Replay this delivery" not in viewer.page(f"/deliveries/{delivery}")
    path = f"/deliveries/{delivery}/replay"
    for answer in (viewer.get(path), viewer.post(path, form_token="")):
        assert (answer.status_code, "--role operator" in answer.text) == (403, True)


def test_bodies_can_be_hidden_from_viewers(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", role=Role.VIEWER, console_hide_bodies=True) as (served, visitor):
        delivery = served.send("sigma", data={"lifecycleState": "secret state"})
        assert "secret state" not in visitor.page(f"/deliveries/{delivery}")
        assert visitor.get(f"/deliveries/{delivery}/body").status_code == 403
        visitor.sign_in(Role.OPERATOR)
        assert "secret state" in visitor.page(f"/deliveries/{delivery}")


# ── proxies ───────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "a secret of the proxy"
BY_PROXY = {"X-Hookmirror-Proxy-Secret": SECRET, "X-Forwarded-User": "mia@example.com"}


def test_a_trusted_proxy_names_the_person_and_forms_work(tmp_path: Path) -> None:
    settings = {"console_trusted_proxies": ["127.0.0.0/8"], "console_proxy_secret": SECRET}
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None, with_worker=True, **settings) as (served, visitor):
        assert "mia@example.com , viewer" in text_of(visitor.get("/", BY_PROXY).text)
        visitor.client.headers.update(BY_PROXY | {"X-Forwarded-Role": "operator"})
        delivery = served.send("sigma")
        served.ended(delivery)
        assert visitor.press(f"/deliveries/{delivery}/replay").status_code == 303
        assert served.count("actions", "who = 'mia@example.com' AND via = 'console'") == 1


@pytest.mark.parametrize("wrong", [{"X-Hookmirror-Proxy-Secret": "x"}, {"X-Forwarded-User": ""}])
def test_a_proxy_without_secret_or_name_is_not_trusted(tmp_path: Path, wrong: dict[str, str]) -> None:
    settings = {"console_trusted_proxies": ["127.0.0.1"], "console_proxy_secret": SECRET}
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None, **settings) as (_, visitor):
        assert visitor.get("/", BY_PROXY | wrong).status_code == 401


def test_a_proxy_at_another_address_is_not_trusted(tmp_path: Path) -> None:
    settings = {"console_trusted_proxies": ["10.0.0.0/8"], "console_proxy_secret": SECRET}
    with visiting(f"sqlite:///{tmp_path}/c.db", role=None, **settings) as (_, visitor):
        assert visitor.get("/", BY_PROXY).status_code == 401


def test_by_default_no_proxy_header_is_trusted(stranger: Visitor) -> None:
    assert stranger.get("/", BY_PROXY).status_code == 401


def test_without_the_setting_there_is_no_console(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/c.db") as served:
        answer = served.client.get("/console/")
    assert answer.status_code == 404
