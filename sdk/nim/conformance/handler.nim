## Does what the header `do` says: the same in every language, so that one table of cases tests them all.
import std/[base64, json, os, streams, unicode]

proc settle(settlement: JsonNode, publications: varargs[JsonNode]): JsonNode =
  %*{"settlement": settlement, "publications": @publications}

proc publication(key, text: string): JsonNode =
  %*{"exchange": "", "routing_key": key, "text": text}

proc echoed(delivery: JsonNode): JsonNode =
  # The body is passed on in the form in which it came, and the properties as they are.
  result = newJObject()
  for name in ["exchange", "routing_key", "text", "base64", "properties"]:
    if name in delivery: result[name] = delivery[name]

proc bytes(delivery: JsonNode): string =
  if "base64" in delivery: decode(delivery["base64"].getStr) else: delivery{"text"}.getStr

proc described(delivery: JsonNode): string =
  "queue=" & delivery{"queue"}.getStr & " exchange=" & delivery{"exchange"}.getStr &
    " key=" & delivery{"routing_key"}.getStr & " redelivered=" & $delivery{"redelivered"}.getBool &
    " attempt=" & $delivery{"attempt"}.getBiggestInt(1)

proc many(count: BiggestInt): JsonNode =
  var publications: seq[JsonNode]
  for i in 0 ..< count: publications.add publication("many." & $i, $i)
  settle(%"ack", publications)

proc jsonOf(delivery: JsonNode): JsonNode =
  if "base64" in delivery: return settle(%*{"dead-letter": "the body is not UTF-8 text"})
  let text = delivery{"text"}.getStr
  var published = publication("json", $ %*{"text": text, "length": text.runeLen})
  published["properties"] = %*{"content_type": "application/json"}
  settle(%"ack", published)

proc memory() =
  var blocks: seq[seq[byte]]
  while true:
    var more = newSeq[byte](1 shl 20)
    for i in countup(0, more.high, 4096): more[i] = 1
    blocks.add move(more)

proc churn() =
  for i in 0 ..< 1000:
    var small = newString(100)
    small[0] = char(i and 0xff)
    doAssert small.len == 100

proc context(delivery: JsonNode): JsonNode =
  let remaining = delivery{"time_ms"}.getInt > 0
  settle(%"ack", publication("context", "worker=" & delivery{"worker"}.getStr & " remaining=" & $remaining))

proc written(delivery: JsonNode, path: string): JsonNode =
  try:
    let file = open(path, fmWrite, bufSize = 0)
    defer: file.close()
    file.write bytes(delivery)
    let read = readFile(path)
    var published = publication("written", read)
    if validateUtf8(read) >= 0:
      published.delete "text"
      published["base64"] = %encode(read)
    settle(%"ack", published)
  except IOError as error:
    settle(%*{"dead-letter": error.msg})

proc handle(delivery: JsonNode): JsonNode =
  let headers = delivery{"properties", "headers"}
  let action = headers{"do"}.getStr
  case action
  of "echo": result = settle(%"ack", echoed(delivery))
  of "describe": result = settle(%"ack", publication("described", described(delivery)))
  of "many": result = many(headers{"count"}.getBiggestInt)
  of "ack", "requeue": result = settle(%action)
  of "retry": result = settle(if headers{"ms"} == nil: %"retry" else: %*{"retry": headers{"ms"}})
  of "dead-letter": result = settle(%*{"dead-letter": bytes(delivery)})
  of "error": raise newException(ValueError, bytes(delivery))
  of "trap": raiseAssert("planted bug")
  of "loop":
    while true: discard
  of "memory": memory()
  of "log":
    stderr.writeLine bytes(delivery)
    result = settle(%"ack")
  of "json": result = jsonOf(delivery)
  of "context": result = context(delivery)
  of "churn":
    churn()
    result = settle(%"ack")
  of "setting": result = settle(%"ack", publication("setting", getEnv(headers{"name"}.getStr, "none")))
  of "write": result = written(delivery, headers{"path"}.getStr)
  else: result = settle(%*{"dead-letter": "unknown: " & action})

stdout.write handle(parseJson(newFileStream(stdin)))
