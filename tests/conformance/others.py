"""Other caches in weir's place, from Debian, set as their operators would who want the most of the RFC."""

from support import machine, processes
from support.checks import eventually
from support.proxy import accepts


def start(name, origin):
    """The URL of a running proxy whose origin is that address."""
    port = machine.free_port()
    folder = machine.work_dir() / name
    folder.mkdir()
    folder.chmod(0o777)
    processes.start(name, KNOWN[name](folder, port, origin))
    eventually(lambda: accepts(port), 15, f"{name} listens")
    return f"http://127.0.0.1:{port}"


def nginx(folder, port, origin):
    machine.need("nginx")
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, origin=origin))
    return ["nginx", "-c", conf, "-p", folder, "-g", "daemon off;"]


def varnish(folder, port, origin):
    machine.need("varnishd")
    host, _, origin_port = origin.rpartition(":")
    conf = folder / "default.vcl"
    conf.write_text(f'vcl 4.1;\nbackend default {{ .host = "{host}"; .port = "{origin_port}"; }}\n')
    # As it comes it keeps for two minutes what states no freshness, and serves everything stale for ten seconds.
    return ["varnishd", "-F", "-a", f"127.0.0.1:{port}", "-f", conf, "-s", "malloc,256m", "-n", folder / "work",
            "-p", "default_ttl=0", "-p", "default_grace=0", "-p", "default_keep=3600"]


KNOWN = {"nginx": nginx, "varnish": varnish}

NGINX = """
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {folder}/cache keys_zone=cache:10m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://{origin};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache cache;
      proxy_cache_revalidate on;
    }}
  }}
}}
"""
