-- wrk sends the requests of a list in turn and prints one line of JSON at the end.
-- Arguments: the list's file; then, to count answers of status 5xx apart, any word.
-- A line of the list: method, path, media type and the file with the body, separated by tabs.

local requests, turn = {}, 0
local threads = {}
server_errors = 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  for line in io.lines(arguments[1]) do
    local method, path, media_type, body = line:match("^([^\t]+)\t([^\t]+)\t([^\t]*)\t([^\t]*)$")
    local headers = media_type ~= "" and { ["Content-Type"] = media_type } or nil
    requests[#requests + 1] = wrk.format(method, path, headers, body ~= "" and content_of(body) or nil)
  end
  if arguments[2] then
    count_server_errors()
  end
end

function content_of(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

-- Only where it is asked for: wrk hands every answer to Lua then, which takes the generator's time.
function count_server_errors()
  function response(status)
    if status >= 500 then
      server_errors = server_errors + 1
    end
  end
end

function done(summary, latency)
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "p50_seconds": %.6f, "p99_seconds": %.6f, "max_seconds": %.6f, ' ..
    '"refused": %d, "broken": %d, "server_errors": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    latency.max / 1e6, summary.errors.status, broken, threads[1]:get("server_errors")))
end
