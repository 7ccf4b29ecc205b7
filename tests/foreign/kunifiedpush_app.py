"""An app on the session bus: registers with KUnifiedPush and prints its endpoint and each message."""

import subprocess

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

SERVICE = "org.example.app"
DISTRIBUTOR = "org.unifiedpush.Distributor.kde"


class Connector(dbus.service.Object):
    @dbus.service.method("org.unifiedpush.Connector2", in_signature="a{sv}", out_signature="a{sv}")
    def NewEndpoint(self, arguments):
        print("endpoint", arguments["endpoint"])
        return dbus.Dictionary({}, signature="sv")

    @dbus.service.method("org.unifiedpush.Connector2", in_signature="a{sv}", out_signature="a{sv}")
    def Message(self, arguments):
        print("message", bytes(arguments["message"]).decode())
        # This is the acknowledgement.
        known = {"id": arguments["id"]} if "id" in arguments else {}
        return dbus.Dictionary(known, signature="sv")

    @dbus.service.method("org.unifiedpush.Connector2", in_signature="a{sv}", out_signature="a{sv}")
    def Unregistered(self, arguments):
        print("unregistered", arguments["token"])
        return dbus.Dictionary({}, signature="sv")


def register():
    distributor = dbus.SessionBus().get_object(DISTRIBUTOR, "/org/unifiedpush/Distributor")
    order = dbus.Dictionary({"service": SERVICE, "token": "token", "description": "an app"}, signature="sv")
    distributor.Register(
        order,
        dbus_interface="org.unifiedpush.Distributor2",
        reply_handler=lambda answer: print("registered", answer["success"]),
        error_handler=lambda error: print("refused", error),
    )


def appeared(owner):
    if owner:
        register()


DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
name = dbus.service.BusName(SERVICE, bus)
connector = Connector(bus, "/org/unifiedpush/Connector")
distributor = subprocess.Popen(["kunifiedpush-distributor"])
bus.watch_name_owner(DISTRIBUTOR, appeared)
GLib.MainLoop().run()
