"""A server of S3: moto, which checks the signature of every request against the keys that it gave out."""

import json
import logging
import os
import urllib.request

# Requests are let in unseen until the keys are made; then `reset-auth` closes the door.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"
logging.disable(logging.CRITICAL)

import boto3
from moto.server import ThreadedMotoServer

from talk import talk, to_bytes, to_text

BUCKET = "caches"
ALL = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
endpoint = "http://{}:{}".format(*server.get_host_and_port())


def client(service, key, secret):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


iam = client("iam", "nobody", "nothing")
iam.create_user(UserName="builder")
iam.put_user_policy(UserName="builder", PolicyName="all", PolicyDocument=ALL)
user = iam.create_access_key(UserName="builder")["AccessKey"]
role = iam.create_role(RoleName="builder", AssumeRolePolicyDocument=ALL)["Role"]
iam.put_role_policy(RoleName="builder", PolicyName="all", PolicyDocument=ALL)
sts = client("sts", "nobody", "nothing")
session = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="build")["Credentials"]
client("s3", "nobody", "nothing").create_bucket(Bucket=BUCKET)
door = urllib.request.Request(
    f"{endpoint}/moto-api/reset-auth", data=b"0", method="POST", headers={"Content-Type": "text/plain"}
)
urllib.request.urlopen(door).read()

s3 = client("s3", user["AccessKeyId"], user["SecretAccessKey"])


def keys(prefix):
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def get(key):
    return to_text(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def put(key, data):
    s3.put_object(Bucket=BUCKET, Key=key, Body=to_bytes(data))


def metadata(key):
    return s3.head_object(Bucket=BUCKET, Key=key)["Metadata"]


talk(
    {
        "url": endpoint,
        "key": user["AccessKeyId"],
        "secret": user["SecretAccessKey"],
        "session_key": session["AccessKeyId"],
        "session_secret": session["SecretAccessKey"],
        "session_token": session["SessionToken"],
    },
    keys=keys,
    get=get,
    put=put,
    metadata=metadata,
)
