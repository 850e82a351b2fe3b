/// Does what the header `do` says: the same in every language, so that one table of cases tests them all.
module handler;

import command;

nothrow @nogc:

auto publication(T...)(const(char)[] key, const(char)[] text, T more) {
    return record("exchange", "", "routing_key", key, "text", text, more);
}

const(char)[] ack(T...)(T publications) {
    return json("settlement", "ack", "publications", list(publications));
}

const(char)[] echo(Json delivery) {
    // The body is passed on in the form in which it came, and the properties as they are.
    return ack(record("exchange", delivery["exchange"], "routing_key", delivery["routing_key"],
            "text", delivery["text"], "base64", delivery["base64"], "properties", delivery["properties"]));
}

const(char)[] describe(Json delivery) {
    return ack(publication("described", concat("queue=", delivery["queue"].text,
            " exchange=", delivery["exchange"].text, " key=", delivery["routing_key"].text, " redelivered=", delivery["redelivered"].boolean ? "true" : "false",
            " attempt=", decimal(delivery["attempt"].integer(1)))));
}

const(char)[] many(long count) {
    alias Numbered = typeof(publication("", ""));
    auto publications = (cast(Numbered*) malloc(cast(size_t) count * Numbered.sizeof + 1))[0 .. cast(size_t) count];
    foreach (i, ref each; publications) {
        const number = decimal(i);
        each = publication(concat("many.", number), number);
    }
    return json("settlement", "ack", "publications", publications);
}

// Of a base64 digit, 64 for what is none.
uint digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

const(char)[] bytes(Json delivery) {
    if (!delivery["base64"].exists) return delivery["text"].text;
    const encoded = delivery["base64"].text;
    auto decoded = cast(char*) malloc(encoded.length + 1), end = decoded;
    uint bits = 0, have = 0;
    foreach (c; encoded) {
        if (digit(c) == 64) break;
        bits = bits << 6 | digit(c);
        have += 6;
        if (have >= 8) *end++ = cast(char)(bits >> (have -= 8));
    }
    return decoded[0 .. end - decoded];
}

const(char)[] jsonOf(Json delivery) {
    if (delivery["base64"].exists) return json("settlement", record("dead-letter", "the body is not UTF-8 text"));
    const text = delivery["text"].text;
    long length = 0;
    foreach (c; text) length += (c & 0xc0) != 0x80;
    return ack(publication("json", json("text", text, "length", length),
            "properties", record("content_type", "application/json")));
}

// Its digits.
const(char)[] encoded(const(char)[] bytes) {
    static immutable digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    auto text = cast(char*) malloc(bytes.length / 3 * 4 + 4), end = text;
    for (size_t i = 0; i < bytes.length; i += 3) {
        uint bits = 0;
        foreach (j; i .. i + 3) bits = bits << 8 | (j < bytes.length ? bytes[j] : 0);
        foreach (j; 0 .. 4) *end++ = i + j > bytes.length ? '=' : digits[bits >> (18 - 6 * j) & 63];
    }
    return text[0 .. end - text];
}

const(char)[] setting(const(char)[] name) {
    const value = environment(name);
    return ack(publication("setting", value is null ? "none" : value));
}

const(char)[] write(Json delivery, const(char)[] path) {
    const(char)[] contents;
    auto error = writeFile(path, bytes(delivery));
    if (!error) error = readFile(path, contents);
    if (error) return json("settlement", record("dead-letter", error.text));
    if (!delivery["base64"].exists) return ack(publication("written", contents));
    return ack(record("exchange", "", "routing_key", "written", "base64", encoded(contents)));
}

void trap() {
    assert(false, "planted bug");
}

// Seen from outside, so that the compiler leaves nothing out that goes through it.
__gshared char* kept;

void memory() {
    for (;;) {
        auto block = cast(char*) malloc(1 << 20);
        if (block is null) abort();
        foreach (i; 0 .. 1 << 8) block[i << 12] = 1;
        // The first bytes lead to the block before.
        *cast(char**) block = kept;
        kept = block;
    }
}

void loop() {
    shared bool on = true;
    while (on) {
    }
}

const(char)[] churn() {
    foreach (i; 0 .. 1000) {
        kept = cast(char*) malloc(100);
        kept[0] = 1;
        free(kept);
    }
    return ack();
}

const(char)[] context(Json delivery) {
    return ack(publication("context", concat("worker=", delivery["worker"].text,
            " remaining=", delivery["time_ms"].integer > 0 ? "true" : "false")));
}

const(char)[] handle(Json delivery) {
    const headers = delivery["properties"]["headers"];
    const action = headers["do"].text;
    if (action == "echo") return echo(delivery);
    if (action == "describe") return describe(delivery);
    if (action == "many") return many(headers["count"].integer);
    if (action == "ack" || action == "requeue") return json("settlement", action);
    if (action == "retry") {
        return headers["ms"].exists ? json("settlement", record("retry", headers["ms"])) : json("settlement", "retry");
    }
    if (action == "dead-letter") return json("settlement", record("dead-letter", bytes(delivery)));
    if (action == "error") {
        log(bytes(delivery));
        exit(1);
    }
    if (action == "trap") trap();
    if (action == "loop") loop();
    if (action == "memory") memory();
    if (action == "log") {
        log(bytes(delivery));
        return ack();
    }
    if (action == "json") return jsonOf(delivery);
    if (action == "context") return context(delivery);
    if (action == "churn") return churn();
    if (action == "setting") return setting(headers["name"].text);
    if (action == "write") return write(delivery, headers["path"].text);
    return json("settlement", record("dead-letter", concat("unknown: ", action)));
}

extern (C) int main() {
    answer(handle(readDelivery()));
    return 0;
}
