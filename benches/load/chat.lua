-- wrk -t2 -c16 -d10s -s benches/load/chat.lua http://127.0.0.1:4000/v1/chat/completions
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. (os.getenv("LITELLM_MASTER_KEY") or "sk-demo")
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model":"glm-4.7","messages":[{"role":"user","content":"Hello"}]}'
