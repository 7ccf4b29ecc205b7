"""Sends one push with pywebpush. Reads a JSON order on standard input, prints the status code."""

import json
import sys

from py_vapid import Vapid01, Vapid02
from pywebpush import WebPushException, webpush

order = json.load(sys.stdin)
arguments = {
    "subscription_info": {"endpoint": order["endpoint"], "keys": order["keys"]},
    "data": order["message"],
    "content_encoding": order["encoding"],
    "ttl": 60,
    "headers": order.get("headers", {}),
}
if order["vapid"]:
    # The older encryption goes with the older draft of VAPID, as at the senders that still use them.
    scheme = Vapid01 if order["encoding"] == "aesgcm" else Vapid02
    arguments["vapid_private_key"] = scheme.from_string(order["vapid"]["private"])
    arguments["vapid_claims"] = {"sub": order["vapid"]["subject"]}
try:
    print(webpush(**arguments).status_code)
except WebPushException as error:
    print(error.response.status_code if error.response is not None else error)
