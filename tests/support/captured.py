"""Captured webhooks of invented senders: the body and the headers of each."""

from __future__ import annotations

HEX = "a1" * 32
BASE64 = "QUFB" * 10 + "QUE="

#: Body and headers by the name of the dialect.
CAPTURED: dict[str, tuple[str, dict[str, str]]] = {
    "kiln": (
        '{"message": "m-7", "what": "item.updated", "item": "A1", "when": "2026-06-01T12:00:00+02:00", '
        '"content": {"name": "Lamp", "price": 19.90, "class": "b", "schema": 3, "madeAt": "2026-01-01T00:00:00Z"}}',
        {"x-kiln-signature": f"sha256={HEX}"},
    ),
    "loom": (
        '{"id": "evt_1", "type": "product.updated", "created": 1700000000, "data": {"object": {"id": "prod_1", '
        '"active": true, "metadata": {"a": 1.50}, "prices": [1, 2], "ownerId": 7}}}',
        {"x-loom-signature": f"t=1700000000,s={HEX}"},
    ),
    "mill": (
        '{"id": 788032119674292922, "title": "Über", "updated_at": "2021-12-31T19:00:00-05:00", "nothing": null}',
        {"x-mill-hmac": BASE64, "x-mill-topic": "products/update"},
    ),
    "oven": (
        '{"batch": 3, "events": [{"event_id": "e1", "type": "PRODUCT_UPDATED", "event_datetime": 1700000000123, '
        '"data": {"product": {"uuid": "u-1", "family": "a"}}}, {"event_id": "e2", "type": "PRODUCT_DELETED"}]}',
        {"x-oven-signature": "a1" * 64, "x-oven-timestamp": "1700000000"},
    ),
    "pump": (
        '{"meta": {"type": "item_changed", "ts": "2026-06-01 12:00:00"}, "thing": {"sku": "A", "unitPrice": "12.50"}}',
        {"x-pump-token": "(hidden)"},
    ),
    "pier": (
        '{"event": "ship.updated", "event_ts": 1700000000123, "payload": {"account_id": "A", "object": {"id": "9", '
        '"name": "Ada"}}}',
        {"x-pier-signature": f"v0={HEX}", "x-pier-timestamp": "1700000000"},
    ),
    "bark": ('{"action": "updated", "model": "berth", "id": 3, "length": 12}', {}),
    "quay": ('{"action": "updated", "model": "berth", "entry": {"id": 3, "length": 12}}', {}),
    "raft": ('{"type": "raft.removed", "timestamp": "2026-06-01T12:00:00Z", "raftId": 9}', {"x-sig": BASE64}),
    "silo": (
        "data=%7B%22event%22%3A%22bin.filled%22%2C%22bin%22%3A%7B%22id%22%3A%22b1%22%7D%7D&x=1",
        {"content-type": "application/x-www-form-urlencoded"},
    ),
    "vats": (
        '{"notificationId": "5b", "eventTime": "2026-05-02T10:11:12.123456Z", "eventName": "ARTICLE_CHANGED", '
        '"article": {"articleNumber": "4711", "description": {"de": "Stuhl"}, "netWeight": 3.75, "blocked": false}}',
        {"x-vats-signature": "QUFB" * 21 + "QQ==", "x-vats-timestamp": "1777716672"},
    ),
    "stove": (
        '{"message": "m-7", "what": "stove.updated", "stove": "S1", "when": "2026-06-01T12:00:00+02:00", '
        '"content": {"name": "Ida"}}',
        {"x-stove-signature": f"sha256={HEX}"},
    ),
    "silt": (
        '{"value": [{"subscriptionId": "s", "state": "hush", "expirationDateTime": "2026-10-29T07:52:31Z", '
        '"resource": "beds/1", "changeType": "updated", "lastModifiedDateTime": "2026-10-26T07:54:20Z"}, '
        '{"subscriptionId": "s", "state": "hush", "expirationDateTime": "2026-10-29T07:52:31Z", '
        '"resource": "beds/1", "changeType": "updated", "lastModifiedDateTime": "2026-10-26T07:55:20Z"}]}',
        {},
    ),
    "weir": (
        '{"operation": "publish", "data": {"__typename": "Gate", "id": "g1", "updatedAt": "2026-06-01T12:00:00Z"}}',
        {"gcms-signature": f"sign={BASE64}, env=master, t=1700000000123"},
    ),
    "sled": (
        '{"type": "none.updated", "timestamp": "2026-06-01T12:00:00Z", "dict": {"id": 1}, "data": {"id": "n1", '
        '"at": "2026-06-02T12:00:00Z", "table": "oak", "self": 1, "datetime": "2026-06-03T12:00:00Z", "str": "x", '
        '"int": 2, "list": [3], "until": "2026-06-04T12:00:00Z", "size": "XL", "count": 4}}',
        {"x-sled-signature": f"sha256={HEX}"},
    ),
    "dray": (
        '{"type": "discard.updated", "datetime": "2026-06-01T12:00:00", "data": {"id": "d1", "name": "x"}}',
        {"x-dray-signature": f"sha256={HEX}"},
    ),
    "wharf": (
        '{"type": "product.updated", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "p1", "name": "x"}}',
        {"webhook-id": "1", "webhook-timestamp": "1700000000", "webhook-signature": "v1a," + "QUFB" * 21 + "QQ=="},
    ),
    "vane": (
        '{"type": "vane.updated", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "v1", "weight": 1e-7, '
        '"limit": 1e3, "discount": -0.0, "price": "-0.00", "taxCode": "0190", "rate": "0.50"}}',
        {"x-vane-signature": f"sha256={HEX}"},
    ),
    "skip": (
        '{"event": "invoice.updated", "timestamp": "2026-06-01T12:00:00Z", "invoice": {"number": "R-1", "amount": 5}}',
        {"x-skip-signature": f"sha256={HEX}"},
    ),
    "delta": (
        '{"event": {"session": {}, "op": "UPDATE", "data": {"old": {"id": 7, "name": "Oak", "price": 1.5}, "new": '
        '{"id": 7, "name": "Elm", "price": 2.5}}}, "created_at": "2026-06-01T12:00:00Z", "id": "c-1", '
        '"delivery_info": {"current_retry": 0}, "trigger": {"name": "insert_tree_trigger"}, '
        '"table": {"schema": "public", "name": "trees"}}',
        {},
    ),
    "ebb": (
        '{"schema": {"type": "struct", "name": "one.two.Envelope"}, "payload": {"before": null, "after": {"id": 7, '
        '"name": "Elm"}, "source": {"connector": "x", "ts_ms": 1780315200000, "db": "yard", "table": "trees"}, '
        '"op": "c", "ts_ms": 1780315200005, "transaction": null}}',
        {},
    ),
    "flume": (
        '{"before": {"tree_code": "T7", "name": "Oak"}, "after": null, "source": {"ts_ms": 1780315200000, "table": '
        '"trees"}, "op": "d", "ts_ms": 1780315200005}',
        {},
    ),
    "gully": (
        '{"type": "UPDATE", "table": "trees", "schema": "public", "record": {"id": 7, "name": "Elm", "updated_at": '
        '"2026-06-01T12:00:00+00:00"}, "old_record": {"id": 7, "name": "Oak", "updated_at": "2026-05-01T12:00:00Z"}}',
        {},
    ),
    "heron": (
        "item_sku=H1&state=sent&to=%2B1555",
        {"x-twilio-signature": "QUFB" * 6 + "QUE=", "content-type": "application/x-www-form-urlencoded"},
    ),
    "inlet": (
        '{"event": "entry.update", "createdAt": "2026-06-01T12:00:00.000Z", "model": "lamp", "entry": {"id": 1, '
        '"name": "Ida", "updatedAt": "2026-06-01T11:59:59Z"}}',
        {},
    ),
    "tarn": ('{"a": 1}', {}),
}

#: Further bodies of some of these senders by the name of the dialect: each with its rows, by their columns.
SENT_TOO: dict[str, list[tuple[str, list[dict[str, object]]]]] = {
    "delta": [
        (
            '{"event": {"op": "INSERT", "data": {"old": null, "new": {"id": 8, "name": "Ash"}}}, "created_at": '
            '"2026-06-01T12:00:00Z", "id": "c-2", "table": {"schema": "public", "name": "trees"}}',
            [{"table": "delta_trees", "external_id": "8", "active": True, "name": "Ash"}],
        ),
        (
            '{"event": {"op": "DELETE", "data": {"old": {"id": 9, "name": "Ash"}, "new": null}}, "created_at": '
            '"2026-06-01T12:00:00Z", "id": "c-3", "table": {"schema": "public", "name": "trees"}}',
            [{"table": "delta_trees", "external_id": "9", "active": False}],
        ),
    ],
    "ebb": [
        (
            '{"payload": {"before": {"id": 9}, "after": null, "source": {"ts_ms": 1780315200000, "table": "trees"}, '
            '"op": "d"}}',
            [{"table": "ebb_trees", "external_id": "9", "active": False, "changed_at": "2026-06-01T12:00:00Z"}],
        ),
        (
            '{"payload": {"before": {"id": 8, "name": "Oak"}, "after": {"id": 8, "name": "Ash"}, "source": '
            '{"ts_ms": 1780315200000, "table": "trees"}, "op": "u"}}',
            [{"table": "ebb_trees", "external_id": "8", "active": True, "name": "Ash"}],
        ),
    ],
    "flume": [
        (
            '{"before": null, "after": {"tree_code": "T8", "name": "Ash"}, "source": {"ts_ms": 1780315200000, '
            '"table": "trees"}, "op": "r"}',
            [{"table": "flume_trees", "external_id": "T8", "active": True, "name": "Ash"}],
        ),
    ],
    "gully": [
        (
            '{"type": "DELETE", "table": "trees", "schema": "public", "record": null, "old_record": {"id": 9, '
            '"updated_at": "2026-05-01T12:00:00+00:00"}}',
            [{"table": "gully_trees", "external_id": "9", "active": False}],
        ),
    ],
}
