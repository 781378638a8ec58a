"""Clients in other languages, programs that print `ok NAME` or `FAIL NAME: WHY` for each of their cases."""

import subprocess

from support import ServerCase


class ClientCase(ServerCase):
    """The cases of such a client, and one more: that it went through all of them."""

    subtests_are_cases = True

    def run_cases(self, *command):
        """Runs a client, which takes the address of the server and the files that it needs for TLS."""
        with subprocess.Popen(
            [*command, self.server.address, *self.transport.client_files], stdout=subprocess.PIPE, text=True
        ) as client:
            try:
                for line in client.stdout:
                    self.report(line.rstrip("\n"))
            except BaseException:
                client.kill()
                raise
        # What a client sees of these may be its own doing alone.
        with self.subTest("the_call_that_was_cancelled_ended_on_the_server"):
            self.assertEqual(self.server.access("cancelled")["status"], "CANCELLED")
        with self.subTest("the_call_that_ran_out_of_time_ended_on_the_server"):
            self.assertIn(self.server.access("deadline")["status"], ["DEADLINE_EXCEEDED", "CANCELLED"])
        self.assertEqual(client.returncode, 0)

    def report(self, line):
        verdict, _, case = line.partition(" ")
        name, _, why = case.partition(": ")
        with self.subTest(name):
            self.assertEqual(verdict, "ok", why)
