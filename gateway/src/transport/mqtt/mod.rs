//! The MQTT room.
