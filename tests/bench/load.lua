-- For wrk: plays back prepared requests, each thread its own share in turn, and prints one line of
-- JSON. The file named by BENCH_REQUESTS has one request a line: METHOD PATH TOKEN [BODY].
local requests, at, statuses = {}, 0, {}
local thread_number = 0
local threads = {}

function setup(thread)
    thread_number = thread_number + 1
    thread:set("number", thread_number)
    table.insert(threads, thread)
end

function init(arguments)
    local count, line_number = tonumber(arguments[2]), 0
    for line in io.lines(arguments[1]) do
        line_number = line_number + 1
        if line_number % count == number % count then
            local method, path, token, body = line:match("^(%S+) (%S+) (%S+) ?(.*)$")
            table.insert(requests, wrk.format(method, path, {
                ["Authorization"] = "Bearer " .. token,
                ["Content-Type"] = "application/json",
                ["Host"] = "localhost",
            }, body))
        end
    end
    refused = 0
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function response(status)
    if status < 200 or status > 299 then
        refused = refused + 1
    end
end

function done(summary, latency, _)
    local refusals = 0
    for _, thread in ipairs(threads) do
        refusals = refusals + thread:get("refused")
    end
    local errors = summary.errors
    io.write(string.format(
        'BENCH {"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,' ..
        '"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d}\n',
        summary.requests, summary.duration / 1e6, refusals,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99),
        latency:percentile(99.9), latency.max))
end
