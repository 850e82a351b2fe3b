/// {{name}}: greets whomever a message names.
module handler;

import command;

const(char)[] deadLetter(const(char)[] reason) {
    return json("settlement", record("dead-letter", reason));
}

const(char)[] handle(Json delivery) {
    // A body that is not UTF-8 comes as "base64".
    if (delivery["base64"].exists) return deadLetter("the body is not UTF-8 text");
    const name = delivery["text"].text;
    if (name.length == 0) return deadLetter("there is nobody to greet");

    log("greeting ", name);
    const text = concat("Hello, ", name, "!");
    const greeting = record("exchange", "", "routing_key", "greetings", "text", text);
    return json("settlement", "ack", "publications", list(greeting));
}

version (unittest) {
} else extern (C) int main() {
    answer(handle(readDelivery()));
    return 0;
}
