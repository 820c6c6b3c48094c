-- No two requests have the same fields.
local n = 0
function request()
  n = n + 1
  wrk.headers["X-Trace-Number"] = n
  return wrk.format()
end
