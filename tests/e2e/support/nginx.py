"""nginx as an origin: static files, uploads by PUT, and a name in X-Origin."""

from . import machine, processes
from .checks import eventually
from .proxy import accepts


class Nginx:
    """One origin with a master and one worker. `files` is its document root, `X-Origin` tells its name."""

    def __init__(self, name, port=None, cpus=None, files=None):
        machine.need("nginx")
        self.name, self.port, self.cpus = name, port or machine.free_port(), cpus
        self.folder = machine.work_dir() / f"origin-{name}"
        self.files = files or self.folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o777)
        self.files.chmod(0o777)
        (self.files / "index.html").write_text("hello\n")
        self.conf = self.folder / "nginx.conf"
        self.conf.write_text(CONF.format(folder=self.folder, files=self.files, port=self.port, name=name))
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        command = ["nginx", "-c", self.conf, "-p", self.folder, "-g", "daemon off;"]
        self.child = processes.start(f"nginx-{self.name}", command, cpus=self.cpus)
        eventually(lambda: accepts(self.port), 5, f"nginx {self.name} listens")

    def kill(self):
        """kill -9 of master and worker: the port refuses at once."""
        self.child.kill()


CONF = """
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  sendfile on;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  types {{ text/html html; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {files};
    add_header X-Origin {name};
    location / {{ try_files $uri /index.html; }}
    location /upload/ {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""
