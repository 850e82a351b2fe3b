## Tests of {{name}}, run natively: `{{sdk}}/nim/test .` in this folder.
import std/[json, unittest]
import handler

test "Ada is greeted":
  let greeting = %*{"exchange": "", "routing_key": "greetings", "text": "Hello, Ada!"}
  check handle(%*{"text": "Ada"}) == %*{"settlement": "ack", "publications": [greeting]}

test "an empty body is dead-lettered":
  check handle(%*{"text": ""}) == %*{"settlement": {"dead-letter": "there is nobody to greet"}}

test "a body that is not UTF-8 is dead-lettered":
  check handle(%*{"base64": "/w=="}) == %*{"settlement": {"dead-letter": "the body is not UTF-8 text"}}
