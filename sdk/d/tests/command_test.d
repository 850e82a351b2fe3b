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

@("files are read and written") unittest {
    import std.file : remove, tempDir;
    import std.path : buildPath;

    const path = buildPath(tempDir, "wabbit-command-test.txt");
    scope (exit) path.remove;
    const(char)[] contents;
    assert(!writeFile(path, "") && !readFile(path, contents) && contents == "");
    assert(!writeFile(path, "a\0ä") && !appendFile(path, "b") && !readFile(path, contents) && contents == "a\0äb");
    assert(!writeFile(path, "c") && !readFile(path, contents) && contents == "c");
    auto large = new char[200_000];
    large[] = 'x';
    assert(!writeFile(path, large) && !readFile(path, contents) && contents == large);
    assert(readFile("/no/such", contents).text == "/no/such: No such file or directory");
    assert(writeFile("/no/such", "").text == "/no/such: No such file or directory");
    // Kept back until the file is closed.
    assert(writeFile("/dev/full", "a").text == "/dev/full: No space left on device");
}

@("the environment is read") unittest {
    import std.process : environ = environment;

    environ["WABBIT_COMMAND_TEST"] = "ä";
    environ["WABBIT_COMMAND_TEST_EMPTY"] = "";
    assert(environment("WABBIT_COMMAND_TEST") == "ä" && environment("WABBIT_COMMAND_TEST_NONE") is null);
    assert(environment("WABBIT_COMMAND_TEST_EMPTY") !is null && environment("WABBIT_COMMAND_TEST_EMPTY").length == 0);
}

@("text is joined") unittest {
    assert(concat() == "" && concat("a", "", "bc") == "abc");
    assert(decimal(0) == "0" && decimal(long.min) == "-9223372036854775808" && decimal(4294967295) == "4294967295");
}
