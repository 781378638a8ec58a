"""Clients in other languages, programs that print `ok NAME` or `FAIL NAME: WHY` for each of their cases."""

import contextlib
import subprocess

from support import ServerCase


@contextlib.contextmanager
def running(*command):
    """A client process, which is killed if the test fails before its end."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        try:
            yield client
        except BaseException:
            client.kill()
            raise


class ClientCase(ServerCase):
    """The cases of such a client, and one more: it completed all of them."""

    subtests_are_cases = True

    def run_cases(self, *command):
        """Runs a client, which takes the address of the server and the files that it needs for TLS."""
        with running(*command, self.server.address, *self.transport.client_files) as client:
            for line in client.stdout:
                self.report(line.rstrip("\n"))
        # A client may end these calls by itself, so its view alone proves nothing.
        with self.subTest("the_call_that_was_cancelled_ended_on_the_server"):
            self.assertEqual(self.server.access("to-be-cancelled")["status"], "CANCELLED")
        with self.subTest("the_call_that_ran_out_of_time_ended_on_the_server"):
            self.assertEqual(self.server.access("to-run-out-of-time")["status"], "DEADLINE_EXCEEDED")
        self.assertEqual(client.returncode, 0)

    def report(self, line):
        verdict, _, case = line.partition(" ")
        name, _, why = case.partition(": ")
        with self.subTest(name):
            self.assertEqual(verdict, "ok", why)
