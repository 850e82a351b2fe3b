## {{name}}: greets whomever a message names.
import std/[json, streams]

proc deadLetter(reason: string): JsonNode =
  %*{"settlement": {"dead-letter": reason}}

proc handle*(delivery: JsonNode): JsonNode =
  # A body that is not UTF-8 comes as "base64".
  if "base64" in delivery: return deadLetter("the body is not UTF-8 text")
  let name = delivery{"text"}.getStr
  if name == "": return deadLetter("there is nobody to greet")

  stderr.writeLine "greeting ", name
  let greeting = %*{"exchange": "", "routing_key": "greetings", "text": "Hello, " & name & "!"}
  %*{"settlement": "ack", "publications": [greeting]}

when isMainModule:
  stdout.write handle(parseJson(newFileStream(stdin)))
