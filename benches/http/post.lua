-- For wrk: posts one body to several paths in turn, and prints the figures as one line of JSON.
-- Arguments: the file with the body, the token, the paths.

local requests, next = {}, 0

function init(args)
    local file = assert(io.open(args[1]))
    local body = file:read("*a")
    file:close()
    local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. args[2]}
    for i = 3, #args do
        requests[#requests + 1] = wrk.format("POST", args[i], headers, body)
    end
end

function request()
    next = next % #requests + 1
    return requests[next]
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('{"requests": %d, "micros": %d, "p50": %d, "p99": %d, "failed": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
