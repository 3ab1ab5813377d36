"""A server of Azure Blob Storage: Azurite, Microsoft's own stand-in, which checks keys and signatures."""

import atexit
import base64
import hashlib
import hmac
import re
import subprocess
import sys
import urllib.parse
import urllib.request

from talk import talk, to_bytes, to_text

# The account that every Azurite has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

azurite = subprocess.Popen(
    [sys.argv[1], "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    text=True,
)
atexit.register(azurite.kill)
for line in azurite.stdout:
    if found := re.search(r"listens on (http://\S+)", line):
        url = f"{found[1]}/{ACCOUNT}"
        break
else:
    sys.exit("Azurite does not come up")


def account_signature(permissions):
    """A shared access signature of the account, as its REST reference lays down."""
    fields = {"sp": permissions, "ss": "b", "srt": "sco", "se": "2199-01-01T00:00:00Z", "sv": "2019-12-12"}
    text = f"{ACCOUNT}\n{fields['sp']}\nb\nsco\n\n{fields['se']}\n\n\n{fields['sv']}\n"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return urllib.parse.urlencode({**fields, "sig": base64.b64encode(signature).decode()})


everything = account_signature("rwdlac")


def ask(path, query="", **options):
    request = urllib.request.Request(f"{url}/{path}?{everything}{query}", **options)
    return urllib.request.urlopen(request).read()


def keys(container):
    listed = ask(container, "&restype=container&comp=list").decode()
    return re.findall(r"<Name>(.*?)</Name>", listed)


def get(path):
    return to_text(ask(urllib.parse.quote(path)))


def put(path, data):
    ask(urllib.parse.quote(path), data=to_bytes(data), method="PUT", headers={"x-ms-blob-type": "BlockBlob"})


talk(
    {"url": url, "account": ACCOUNT, "key": KEY, "signature": everything},
    keys=keys,
    get=get,
    put=put,
)
