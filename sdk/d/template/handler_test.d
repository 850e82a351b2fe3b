/// Tests of {{name}}, run natively: `{{sdk}}/d/test .` in this folder.
module handler_test;

import command, handler;

@("Ada is greeted") unittest {
    const outcome = parse(handle(parse(`{"text": "Ada"}`)));
    assert(outcome["settlement"].text == "ack");
    assert(handle(parse(`{"text": "Ada"}`)) == `{"settlement":"ack","publications":[`
        ~ `{"exchange":"","routing_key":"greetings","text":"Hello, Ada!"}]}`);
}

@("an empty body is dead-lettered") unittest {
    assert(handle(parse(`{"text": ""}`)) == `{"settlement":{"dead-letter":"there is nobody to greet"}}`);
}

@("a body that is not UTF-8 is dead-lettered") unittest {
    assert(handle(parse(`{"base64": "/w=="}`)) == `{"settlement":{"dead-letter":"the body is not UTF-8 text"}}`);
}
