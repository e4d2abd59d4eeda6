"""The servers that are compared, the load, and what both cost: shared by `run` and `growth`."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# The examples: not guided by the profile, which is that of the gateway alone.
TOOLS = TARGET / "plain/examples"
KEY = "sk-load-not-a-real-key"
# The server under test has one core for itself, load and upstream have the others.
SERVER_CORE = {max(os.sched_getaffinity(0))}
LOAD_CORES = os.sched_getaffinity(0) - SERVER_CORE or SERVER_CORE
# Ten thousand streams are twenty thousand sockets.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise SystemExit(f"a server ended: {process.args}")
        time.sleep(0.02)
    raise SystemExit(f"a server did not start: {process.args}")


class Server:
    """A process with the server's core for itself."""

    def __init__(self, name, command, port, folder, env=None, cores=None, settings=None):
        # What a client has to say to this server beside the request, as settings of `client`.
        self.name, self.port, self.settings = name, port, settings or {}
        log = open(pathlib.Path(folder, f"{name}.log"), "ab")
        cores = cores or SERVER_CORE
        self.process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=folder, start_new_session=True,
                                        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(env or {})},
                                        preexec_fn=lambda: os.sched_setaffinity(0, cores))
        wait_for(port, self.process)

    def pids(self):
        """The process and its children: nginx serves from one."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    todo += map(int, (task / "children").read_text().split())
        return found

    def cpu_ns(self):
        total = 0
        for pid in self.pids():
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total

    def rss_kb(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Rss:"):
                        total += int(line.split()[1])
        return total

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def client(port, kind, cores=None, **settings):
    command = [TOOLS / "load", "client", f"127.0.0.1:{port}", kind, f"key={KEY}"]
    command += [f"{name}={value}" for name, value in settings.items()]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, cores or LOAD_CORES))
    if done.returncode:
        raise SystemExit(done.stderr)
    seen = json.loads(done.stdout)
    if seen["failed"]:
        raise Refused(f"{seen['failed']} requests failed: {seen['failure']}")
    return seen


# Where the kernel's controller of processor time takes single threads (its first version).
CPU_GROUPS = pathlib.Path("/sys/fs/cgroup/cpu")


@contextlib.contextmanager
def rationed(server, name, share):
    """Gives each thread of this name so much of a core and no more, where there is a share, and stops the server in the end."""
    groups = []
    try:
        for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
            if not share or (task / "comm").read_text().strip() != name:
                continue
            groups.append(CPU_GROUPS / f"nanogate-bench-{task.name}")
            groups[-1].mkdir()
            for file, value in [("cpu.cfs_period_us", 10_000), ("cpu.cfs_quota_us", int(10_000 * share)), ("cpu.shares", 100_000), ("tasks", task.name)]:
                (groups[-1] / file).write_text(str(value))
        yield
    finally:
        server.stop()
        for group in groups:
            with contextlib.suppress(OSError):
                group.rmdir()


class Refused(Exception):
    pass


NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 100m; client_body_buffer_size 1m; keepalive_requests 1000000; tcp_nodelay on;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s; }}
  }}
}}
"""

CONFIG = """
model_list:
  - model_name: glm
    litellm_params: {{ model: openai/up/glm, api_base: "{scheme}://localhost:{upstream}/v1", api_key: sk-nano-not-a-real-key }}
litellm_settings: {{ drop_params: true }}
general_settings: {{ master_key: {key} }}
"""


def gateway(folder, upstream, name="nanogate", scheme="http", threads=1, env=None, cores=None, config_text=CONFIG):
    port = free_port()
    config = pathlib.Path(folder, f"{name}.yaml")
    config.write_text(config_text.format(upstream=upstream, key=KEY, scheme=scheme))
    command = [os.environ.get("NANOGATE") or TARGET / "release/nanogate", "serve", "--config", config, "--host", "127.0.0.1", "--port", port, "--admin-port", free_port(), "--num_workers", threads]
    return Server(name, command, port, folder, env, cores)


def nginx(folder, upstream):
    port = free_port()
    conf = pathlib.Path(folder, "nginx.conf")
    conf.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    return Server("nginx", ["nginx", "-c", conf, "-g", "daemon off;"], port, folder)


def bare(folder, upstream):
    port = free_port()
    return Server("bare Pingora", [TOOLS / "passthrough", port, f"127.0.0.1:{upstream}", 1], port, folder)


def litellm(folder, upstream):
    port = free_port()
    config = pathlib.Path(folder, "litellm.yaml")
    config.write_text(CONFIG.format(upstream=upstream, key=KEY, scheme="http"))
    return Server("LiteLLM", ["litellm", "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"], port, folder)


def portkey(folder, upstream):
    port = free_port()
    settings = {"header.x-portkey-provider": "openai", "header.x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1"}
    return Server("Portkey", [shutil.which("gateway"), f"--port={port}", "--headless"], port, folder, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}, settings=settings)


def syscalls(server, seconds=1):
    """System calls a request by name, of a closed loop under strace; nothing without strace."""
    if not shutil.which("strace"):
        return None
    with tempfile.NamedTemporaryFile() as counts:
        tracer = subprocess.Popen(["strace", "-cfo", counts.name, *(word for pid in server.pids() for word in ("-p", str(pid)))], stderr=subprocess.DEVNULL)
        time.sleep(1)
        requests = client(server.port, "closed", connections=16, seconds=seconds, **server.settings)["requests"]
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        rows = [line.split() for line in pathlib.Path(counts.name).read_text().splitlines()]
    found = {row[-1]: int(row[3]) / requests for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"}
    return {name: round(count, 2) for name, count in found.items() if count >= 0.05}


def start_upstream(folder, *more, cores=None):
    port = free_port()
    return Server("upstream", [TOOLS / "load", "upstream", port, *more], port, folder, cores=cores or LOAD_CORES)


def spent(server, work):
    before = server.cpu_ns()
    seen = work()
    return server.cpu_ns() - before, seen
