"""An etcd cluster, asked so that only a majority of its members can answer.

Every question is a transaction over etcd's v3 JSON gateway, never a serializable (stale) read: a member that
is cut off from the majority does not answer. What is written stands on one rule: keys are put if those that
were read are as they were read (their revisions are compared), and else nothing is.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs

from . import spare
from .base import ArbiterUnreachable

PORT: Final = 2379
GATEWAY: Final = "/v3/"  # from etcd 3.4 on
FORM: Final = "etcd://HOST[:PORT],HOST,HOST/PREFIX"
_NO_ETCD = "is no etcd: its answer cannot be read"
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>[0-9]{1,5}))?")


@attrs.frozen
class Found:
    """A key as it was read. `value` is None, and `revision` 0, where there is none."""

    value: str | None = None
    revision: int = 0


@attrs.define(eq=False)
class Cluster:
    """The members and the prefix that `where` names (`h1:2379,h2,h3/prefix`), asked for `timeout` seconds.

    Raises:
        ValueError: it has another form, or the client library is missing.
    """

    where: str
    timeout: float
    prefix: str = attrs.field(init=False)
    _hosts: list[tuple[str, int]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        hosts, _, prefix = self.where.partition("/")
        self.prefix = prefix.strip("/")
        self._hosts = [self._host(host) for host in hosts.split(",")]
        if not (self.prefix and self.prefix.isprintable()):
            raise ValueError(f"'{self}': write {FORM}")
        try:
            import etcd3gw  # noqa: F401 - here, where descriptors are left to read it
        except ImportError:
            raise ValueError(f"'{self}': its client is missing: pip install 'colo-fsm[etcd]'") from None
        spare.keep()

    def __str__(self) -> str:
        return f"etcd://{self.where}"

    def _host(self, text: str) -> tuple[str, int]:
        found = _HOST.fullmatch(text)
        port = int(found["port"] or PORT) if found else 0
        if found is None or not 0 < port < 1 << 16:
            raise ValueError(f"'{self}': write {FORM}")
        return found["six"] or found["name"], port

    @contextmanager
    def asked(self) -> Iterator[Question]:
        """Ask, in one go of about `timeout` seconds. Raises ArbiterUnreachable."""
        with spare.lent():
            question = Question(self, time.monotonic() + self.timeout)
            try:
                yield question
            finally:
                question.close()

    def members(self) -> Iterator[Member]:
        """Each in turn, those that did not answer last time behind the others."""
        # Each has its share of the time, and what is asked of the one that answers has one, too.
        share = self.timeout / (len(self._hosts) + 1)
        for host, port in tuple(self._hosts):
            yield Member(str(self), host, port, share)
            # Reached only if it has not answered. Threads may do so at once: any order will do.
            self._hosts = [h for h in self._hosts if h != (host, port)] + [(host, port)]


class Member:
    """A connection to one of them; `share` is how many seconds it has to answer."""

    def __init__(self, cluster: str, host: str, port: int, share: float) -> None:
        from etcd3gw.client import Etcd3Client

        self.share = share
        self._cluster = cluster
        self._name = f"{host}:{port}"
        self._client = Etcd3Client(host, port, api_path=GATEWAY)
        self._client.session.trust_env = False  # no proxy stands between a side and its arbiter
        self.close = self._client.session.close

    def transaction(self, txn: dict[str, Any], timeout: float) -> Mapping[str, Any]:
        """Its answer in JSON. Raises ArbiterUnreachable."""
        from etcd3gw.exceptions import ConnectionFailedError, ConnectionTimeoutError, Etcd3Exception

        self._client.timeout = timeout
        try:
            answer = self._client.transaction(txn)
        except ConnectionTimeoutError as error:
            raise self.refusal(f"gave no answer in {timeout:.1f} s") from error
        except Etcd3Exception as error:
            silent = "cannot be reached" if isinstance(error, ConnectionFailedError) else _NO_ETCD
            raise self.refusal(_told(error.detail_text) or silent) from error
        except (OSError, ValueError) as error:
            raise self.refusal(_NO_ETCD) from error
        if not isinstance(answer, dict):
            raise self.refusal(_NO_ETCD)
        return answer

    def read(self, txn: dict[str, Any], timeout: float) -> list[Found]:
        """The keys that a transaction asks for, each alone. Raises ArbiterUnreachable."""
        answer = self.transaction(txn, timeout)
        try:
            ranges = [response["response_range"].get("kvs") for response in answer["responses"]]
            return [_found(kvs[0]) if kvs else Found() for kvs in ranges]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise self.refusal(_NO_ETCD) from error

    def refusal(self, reason: str) -> ArbiterUnreachable:
        """That this one did not answer."""
        return ArbiterUnreachable(self._cluster, f"{self._name} {reason}")


@attrs.define
class Question:
    """A few transactions with the first member that answers, until `deadline` by the monotonic clock."""

    _cluster: Cluster
    _deadline: float
    _member: Member | None = None

    def close(self) -> None:
        """Nothing more is asked."""
        if self._member is not None:
            self._member.close()

    def read(self, *keys: str) -> list[Found]:
        """These keys, all at one moment, by whichever member answers. Raises ArbiterUnreachable."""
        txn = {"success": [{"request_range": {"key": self._key(key)}} for key in keys]}
        if self._member is not None:
            return self._member.read(txn, self._left(self._member))
        refusals = []
        for member in self._cluster.members():
            try:
                found = member.read(txn, member.share)
            except ArbiterUnreachable as error:
                member.close()
                refusals.append(error.reason)
            else:
                self._member = member
                return found
        raise ArbiterUnreachable(str(self._cluster), "; ".join(refusals))

    def write(self, read: Mapping[str, Found], puts: Mapping[str, str]) -> bool:
        """Put these if those are still as they were read; whether it was done, on disk, by a majority.

        Asked of the one member that was read from: another, asked after it has given no answer, would say no
        where it was done already. Raises ArbiterUnreachable: it may be done, or be done later.
        """
        assert self._member is not None
        compare = [
            {"key": self._key(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(found.revision)}
            for key, found in read.items()
        ]
        success = [
            {"request_put": {"key": self._key(key), "value": _in_base64(value)}}
            for key, value in puts.items()
        ]
        txn = {"compare": compare, "success": success}
        return bool(self._member.transaction(txn, self._left(self._member)).get("succeeded"))

    def _key(self, key: str) -> str:
        return _in_base64(f"{self._cluster.prefix}/{key}")

    def _left(self, member: Member) -> float:
        """What is left of the time, and a share in any case if something is. Raises ArbiterUnreachable."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise member.refusal(f"gave no answer in {self._cluster.timeout:g} s")
        return max(left, member.share)


def _found(kv: Mapping[str, str]) -> Found:
    return Found(b64decode(kv.get("value", "")).decode(), int(kv["mod_revision"]))


def _in_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _told(detail: str | None) -> str | None:
    """What a member says in its JSON, if it does."""
    try:
        return f"says: {json.loads(detail or '')['message']}"
    except (ValueError, LookupError, TypeError):
        return None
