"""A name server on loopback, so that servers find each other by DNS as they do elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading

from twisted.names import dns

from tests.support.ports import free_port

HOST = "localhost"  # the one name that whoever asks the system for addresses finds as well

Srv = tuple[int, int, int, str]  # priority, weight, port, target


class NameServer:
    """Answers with what is in `services` and `addresses`, and that there is nothing else."""

    def __init__(self) -> None:
        self.services: dict[str, list[Srv]] = {}
        self.addresses = {HOST: "127.0.0.1"}
        self.asked: list[str] = []
        self.port = free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._tcp = socket.create_server(("127.0.0.1", self.port))
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def add(self, domain: str, port: int, tls_port: int | None = None) -> None:
        """A domain whose server listens on this machine."""
        self.services[f"_xmpp-server._tcp.{domain}"] = [(10, 0, port, HOST)]
        if tls_port is not None:
            self.services[f"_xmpps-server._tcp.{domain}"] = [(5, 0, tls_port, HOST)]

    def close(self) -> None:
        """Answer nothing any more."""
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                data, address = self._udp.recvfrom(4096)
                if not data:
                    return  # it is closed
                self._udp.sendto(self._answer(data), address)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                size = int.from_bytes(connection.recv(2), "big")
                answer = self._answer(connection.recv(size))
                connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, data: bytes) -> bytes:
        question = dns.Message()
        question.fromStr(data)
        answer = dns.Message(id=question.id, answer=1, recDes=question.recDes, recAv=1, auth=1)
        answer.queries = question.queries
        found = False
        for query in question.queries:
            name = query.name.name.decode().lower()
            self.asked.append(name)
            found = found or name in self.services or name in self.addresses
            found = found or any(known.endswith(f".{name}") for known in self.services)
            if query.type == dns.SRV:
                for priority, weight, port, target in self.services.get(name, []):
                    payload = dns.Record_SRV(priority, weight, port, target, ttl=60)
                    answer.answers.append(dns.RRHeader(name, dns.SRV, dns.IN, 60, payload, auth=True))
            elif query.type == dns.A and name in self.addresses:
                payload = dns.Record_A(self.addresses[name], ttl=60)
                answer.answers.append(dns.RRHeader(name, dns.A, dns.IN, 60, payload, auth=True))
        answer.rCode = dns.OK if found else dns.ENAME
        return answer.toStr()  # type: ignore[no-any-return]
