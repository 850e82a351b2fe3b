/// Tests of `command`, run natively.
module command_test;

import command;

@("values are read") unittest {
    const value = parse(`{"n": -9223372036854775808, "x": 1.5, "t": "\u00e4\n", "b": true, "o": {"a": null}}`);
    assert(value["n"].integer == long.min && value["x"].number == 1.5 && value["b"].boolean);
    assert(value["t"].text == "ä\n");
    assert(value["o"]["a"].exists && !value["o"]["b"].exists && !value["a"]["b"]["c"].exists);
    // Of another type.
    assert(value["x"].integer(7) == 7 && value["n"].text == "" && !value["t"].boolean);
}

@("what is not JSON is told") unittest {
    Json value;
    assert(tryParse("[1]", value) && value.exists);
    assert(!tryParse("[1", value) && !value.exists);
    assert(!tryParse("", value));
}

@("values are written") unittest {
    const read = parse(`{"kept": [1, {"a": 1.50}]}`);
    assert(json("a", 1, "b", "\"\n", "c", true, "d", 0.5, "e", read["kept"], "left out", read["x"], "f",
            list("x", 2, record()), "g", [3, 4])
        == `{"a":1,"b":"\"\n","c":true,"d":0.5,"e":[1, {"a": 1.50}],"f":["x",2,{}],"g":[3,4]}`);
    assert(json() == "{}");
}

@("text is joined") unittest {
    assert(concat() == "" && concat("a", "", "bc") == "abc");
    assert(decimal(0) == "0" && decimal(long.min) == "-9223372036854775808" && decimal(4294967295) == "4294967295");
}
