-- One POST over and over. The body and the headers come from files that measure.py writes; the figures go to one as JSON.
local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  wrk.method = "POST"
  wrk.body = read(os.getenv("BENCH_BODY"))
  for name, value in read(os.getenv("BENCH_HEADERS")):gmatch("([^\n:]+): ([^\n]*)") do
    wrk.headers[name] = value
  end
  request = wrk.format()
  wrk.request = function() return request end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local out = assert(io.open(os.getenv("BENCH_OUT"), "w"))
  out:write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,"bytes":%d,' ..
      '"errors":{"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max, summary.bytes,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
  out:close()
end
