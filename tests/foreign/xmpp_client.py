"""Phones with Conversations as their UnifiedPush distributor, as far as a server can tell.

It takes orders as JSON lines on standard input, answers each by a line with the order's number `n`, and prints
a line for each push. One process holds any number of accounts.
"""

import asyncio
import base64
import hashlib
import json
import sys
import uuid
from xml.etree import ElementTree

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

UNIFIED_PUSH = "http://gultsch.de/xmpp/drafts/unified-push"
ANSWER_S = 15


def say(**line):
    print(json.dumps(line), flush=True)


def error_of(answer):
    return {"type": answer["error"]["type"], "condition": answer["error"]["condition"]}


class Stream(slixmpp.ClientXMPP):
    """One session of an account; it resumes after a cut, if the server lets it (XEP-0198)."""

    def __init__(self, account, jid, port, create):
        super().__init__(jid, "password")
        self.account, self.port = account, port
        self.enable_direct_tls = self.enable_starttls = False
        self.enable_plaintext = True
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.register_plugin("xep_0077")
        self.register_plugin("xep_0198")
        self.plugin["xep_0077"].create_account = create
        # Without a handler of its own, a push would be answered by the library.
        self.register_handler(Callback("push", MatchXPath(f"{{jabber:client}}iq/{{{UNIFIED_PUSH}}}push"), account.pushed))
        self.add_event_handler("register", self.create)
        self.add_event_handler("failed_auth", lambda _: self.over("failed_auth"))
        self.add_event_handler("session_start", lambda _: self.over("started"))
        self.add_event_handler("session_resumed", lambda _: self.over("resumed"))
        self.outcome = None

    def over(self, outcome):
        if self.outcome is not None and not self.outcome.done():
            self.outcome.set_result(outcome)

    async def create(self, _):
        order = self.Iq()
        order["type"] = "set"
        order["register"]["username"] = self.boundjid.user
        order["register"]["password"] = self.password
        await order.send(timeout=ANSWER_S)

    async def open(self):
        self.outcome = asyncio.get_running_loop().create_future()
        self.connect("127.0.0.1", self.port)
        outcome = await asyncio.wait_for(self.outcome, ANSWER_S)
        self.plugin["xep_0077"].create_account = False
        return outcome


class Account:
    def __init__(self, name):
        self.name = name
        # What Conversations draws when an account is added; no server ever sees it.
        self.identity = str(uuid.uuid4())
        self.apps = {}
        self.is_new = True
        self.how = "result"
        self.stream = None

    def hash(self, value):
        digest = hashlib.sha256(f"{self.identity}\0{value}".encode()).digest()
        return base64.b64encode(digest).decode()

    def pushed(self, iq):
        push = iq.xml.find(f"{{{UNIFIED_PUSH}}}push")
        application, instance, text = push.get("application"), push.get("instance"), push.text or ""
        app = self.apps.get((application, instance))
        try:
            base64.b64decode(text, validate=True)
            how = self.how if app else "item-not-found"
        except ValueError:
            how = "item-not-found"
        say(
            push={"application": application, "instance": instance, "base64": text},
            account=self.name,
            to=str(iq["to"]),
            sender=str(iq["from"]),
            id=iq["id"],
            app=app and app[0],
            token=app and app[1],
            answered=how,
        )
        if how == "silence":
            return
        reply = iq.reply()
        if how != "result":
            reply["type"] = "error"
            reply["error"]["type"], reply["error"]["condition"] = "cancel", how
        reply.send()

    async def ask(self, to, kind, payload):
        iq = self.stream.make_iq(ito=to, itype=kind)
        iq.append(payload)
        try:
            answer = await iq.send(timeout=ANSWER_S)
        except IqError as error:
            return {"error": error_of(error.iq)}
        except IqTimeout:
            return {"error": {"type": "timeout", "condition": "timeout"}}
        return {"xml": [ElementTree.tostring(child, encoding="unicode") for child in answer.xml]}


class Phones:
    def __init__(self, port):
        self.accounts = {}
        self.port = port

    def account(self, name):
        return self.accounts.setdefault(name, Account(name))

    async def identify(self, account, identity):
        self.account(account).identity = identity
        return {}

    async def connect(self, account, domain, resource):
        """A new session: binds this resource. What the account has registered stays known to it."""
        phone = self.account(account)
        phone.stream = Stream(phone, f"{account}@{domain}/{resource}", self.port, phone.is_new)
        outcome = await phone.stream.open()
        phone.is_new = False
        # Whoever has told nobody that it is there is sent nothing by ejabberd.
        phone.stream.send_presence()
        return {"outcome": outcome, "jid": str(phone.stream.boundjid)}

    async def register(self, account, to, app, token):
        """What Conversations does for an app, and again on each bind and before the registration expires."""
        phone = self.accounts[account]
        hashes = (phone.hash(app), phone.hash(token))
        phone.apps[hashes] = (app, token)
        attributes = dict(zip(("application", "instance"), hashes))
        answer = await phone.ask(to, "set", ElementTree.Element(f"{{{UNIFIED_PUSH}}}register", attributes))
        if "error" in answer:
            return answer
        registered = ElementTree.fromstring(answer["xml"][0])
        if registered.tag != f"{{{UNIFIED_PUSH}}}registered":
            raise ValueError(f"not <registered/>: {answer}")
        return {"endpoint": registered.get("endpoint"), "expiration": registered.get("expiration")}

    async def answer(self, account, how):
        """How pushes are answered from now on: "result", "silence" or an error's condition."""
        self.accounts[account].how = how
        return {}

    async def ask(self, account, to, kind, payload):
        return await self.accounts[account].ask(to, kind, ElementTree.fromstring(payload))

    async def presence(self, account, to):
        """Directed presence, which Conversations sends to its push server once it has registrations."""
        self.accounts[account].stream.send_presence(pto=to)
        return {}

    async def message(self, account, to, body):
        self.accounts[account].stream.send_message(mto=to, mbody=body, mtype="chat")
        return {}

    async def cut(self, account):
        """Out of coverage: the connection ends without a word, the session hibernates."""
        stream = self.accounts[account].stream
        gone = stream.wait_until("disconnected", ANSWER_S)
        stream.transport.abort()
        await gone
        return {}

    async def back(self, account):
        """In coverage again: resumes its session, or says that the server no longer knew it."""
        return {"outcome": await self.accounts[account].stream.open()}

    async def leave(self, account):
        await self.accounts[account].stream.disconnect()
        return {}

    async def obey(self, line):
        order = json.loads(line)
        number, what = order.pop("n"), order.pop("do")
        try:
            say(n=number, **await getattr(self, what)(**order))
        except Exception as error:  # The test is told, whatever it is.
            say(n=number, failed=f"{what}: {type(error).__name__}: {error}")


async def main():
    phones = Phones(int(sys.argv[1]))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(phones.obey(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
