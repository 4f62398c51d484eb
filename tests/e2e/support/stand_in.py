"""nginx in weir's place: the subset of weir's configuration that the scripts use, as an nginx.conf.

Only for working on the scripts: what nginx cannot do (health checks, reloads that keep connections) it does not do here.
"""

import signal

RELOAD = signal.SIGHUP


def command(file):
    return ["nginx", "-c", file, "-p", file.parent, "-g", "daemon off;"]


def h2c_port(port):
    """nginx 1.22 speaks either HTTP/1.1 or HTTP/2 on a cleartext port: HTTP/2 gets one below those given out."""
    return port - 8000


def render(config, folder):
    """The nginx.conf."""
    hosts = {}
    for name, route in config["route"].items():
        for host in route.get("host", ["_"]):
            hosts.setdefault(host, []).append((name, route))
    servers = [_server(config, host, routes) for host, routes in hosts.items()]
    upstreams = [_upstream(name, upstream) for name, upstream in config["upstream"].items()]
    return f"""
worker_processes {config.get("process", {}).get("workers", 2)};
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_shutdown_timeout 25s;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server_names_hash_max_size 65536;
  server_names_hash_bucket_size 128;
  keepalive_requests 100000000;
  proxy_http_version 1.1;
  proxy_buffering off;
  proxy_request_buffering off;
  proxy_buffers 8 16k;
  proxy_buffer_size 16k;
  proxy_next_upstream error timeout;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upstream;
  map $http_upgrade $connection_upstream {{ default upgrade; '' ''; }}
  {"".join(upstreams)}
  {"".join(servers)}
}}
"""


def _upstream(name, upstream):
    servers = "".join(f"server {server};" for server in upstream["servers"])
    return f"upstream {name} {{ zone {name} 64k; {servers} keepalive 128; keepalive_requests 100000000; }}\n"


def _server(config, host, routes):
    only = {listener for _, route in routes for listener in route.get("listen", [])}
    listens = ""
    for name, listener in config["listen"].items():
        if only and name not in only:
            continue
        address, _, port = listener["address"].rpartition(":")
        default = " default_server" if host == "_" else ""
        if "tls" in listener:
            pair = listener["tls"]["certificates"][0]
            listens += f"listen {address}:{port} ssl http2{default};"
            listens += f"ssl_certificate {pair['cert']}; ssl_certificate_key {pair['key']};"
        else:
            listens += f"listen {address}:{port}{default}; listen {address}:{h2c_port(int(port))} http2{default};"
    locations = "".join(_location(route) for _, route in routes)
    return f"server {{ server_name {host}; {listens} {locations} }}\n"


def _location(route):
    fields = "".join(
        f"add_header {name} {value} always;" for name, value in route.get("response_headers", {}).get("set", {}).items())
    size = route.get("max_body", "100MiB").replace("MiB", "m")
    strip = "/" if "strip_prefix" in route else ""
    target = f"proxy_pass http://{route.get('upstream')}{strip};"
    if "respond" in route:
        target = f"return {route['respond']['status']} '{route['respond']['body']}';"
    body = f"{{ {fields} client_max_body_size {size}; {target} }}\n"
    places = [
        f"location {path}/ {body} location = {path} {body}" if path else f"location / {body}"
        for path in (path.rstrip("/") for path in _list(route.get("path", "/")))
    ]
    return "".join(places)


def _list(value):
    return value if isinstance(value, list) else [value]
