-- A different token for each request, of 1,000.
local n = 0
function request()
  n = (n % 1000) + 1
  return wrk.format("GET", "/", { ["Authorization"] = "Bearer " .. tokens[n] })
end
function init(args)
  tokens = {}
  for line in io.lines(args[1]) do tokens[#tokens + 1] = line end
end
