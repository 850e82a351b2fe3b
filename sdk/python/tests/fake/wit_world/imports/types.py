"""The types of the contract, with the names and shapes that componentize-py gives them."""

from dataclasses import make_dataclass

FIELDS = "Boolean Integer Float Text Binary Timestamp Json"
for name in FIELDS.split():
    globals()[f"Field_{name}"] = make_dataclass(f"Field_{name}", ["value"])
Field_Void = make_dataclass("Field_Void", [])

Settlement_Ack = make_dataclass("Settlement_Ack", [])
Settlement_Requeue = make_dataclass("Settlement_Requeue", [])
Settlement_Retry = make_dataclass("Settlement_Retry", ["value"])
Settlement_DeadLetter = make_dataclass("Settlement_DeadLetter", ["value"])

PROPERTIES = (
    "content_type content_encoding headers persistent priority correlation_id reply_to expiration_ms message_id "
    "timestamp kind user_id app_id"
)
Properties = make_dataclass("Properties", PROPERTIES.split())
Delivery = make_dataclass("Delivery", "body properties exchange routing_key queue redelivered attempt".split())
Publication = make_dataclass("Publication", "exchange routing_key body properties".split())
Outcome = make_dataclass("Outcome", "settlement publications".split())
