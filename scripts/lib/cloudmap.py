"""Starts moto's server, fills its Cloud Map, and runs the test that asks it. Called by scripts/cloudmap-test."""

import os
import subprocess
import sys

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://%s:%d" % server.get_host_and_port()
client = boto3.client(
    "servicediscovery", endpoint_url=endpoint, region_name="eu-central-1", aws_access_key_id="AK", aws_secret_access_key="SK"
)
for name in ["other", "prod"]:
    client.create_http_namespace(Name=name)
namespace = next(one for one in client.list_namespaces()["Namespaces"] if one["Name"] == "prod")
service = client.create_service(Name="shop", NamespaceId=namespace["Id"])["Service"]
client.register_instance(
    ServiceId=service["Id"], InstanceId="1", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1", "DAPR_PORT": "41001"}
)
command = ["cargo", "test", "--locked", "-p", "pillion-names", "moto_is_understood"]
code = subprocess.run(command, env={**os.environ, "PILLION_MOTO": endpoint}).returncode
server.stop()
sys.exit(code)
