// grpc-js as a client of the user service. Prints a line for each case, `ok NAME` or `FAIL NAME: WHY`, and exits with 0
// once it has been through all of them.
//
//   node client.mjs ADDRESS [AUTHORITY [CERTIFICATE KEY]]
//
// The files are PEM; with them it speaks TLS. PROTO_DIR names the folder of the .proto files, GRPC_JS the one with
// package.json and node_modules.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const { GRPC_JS, PROTO_DIR } = process.env;
const require = createRequire(path.join(GRPC_JS, "package.json"));
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const [address, ...pemFiles] = process.argv.slice(2);
const [authority, certificate, key] = pemFiles.map((file) => readFileSync(file));
const credentials = authority
    ? grpc.credentials.createSsl(authority, key ?? null, certificate ?? null)
    : grpc.credentials.createInsecure();

// The certificate's name; Node.js warns of addresses.
const name = authority ? { "grpc.ssl_target_name_override": "localhost" } : {};

const definition = protoLoader.loadSync("user_service.proto", { includeDirs: [PROTO_DIR], defaults: true });
const { UserService } = grpc.loadPackageDefinition(definition).ru.tinkoff.kora.example;
const details = new protobuf.Root();
details.resolvePath = (_, file) => path.join(PROTO_DIR, file);
details.loadSync(["google/rpc/error_details.proto", "google/rpc/status.proto"]);
const BadRequest = details.lookupType("google.rpc.BadRequest");
const Status = details.lookupType("google.rpc.Status");

// The size limit of a message that clients and servers share by default.
const FOUR_MIB = 4 * 1024 * 1024;
const GZIP = { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };

const ALICE = { name: "Alice", email: "alice@example.com" };
const NOBODY = { name: " ", email: "nobody" };

// No case takes longer than this, in milliseconds.
const LIMIT = 30_000;

// The calls of a connection as promises.
class Users {
    constructor(options = {}) {
        this.client = new UserService(address, credentials, { ...name, ...options });
    }

    close() {
        this.client.close();
    }

    createUser(request, metadata = {}, options = {}) {
        return this.#oneAnswer((done) => this.client.createUser(request, sent(metadata), options, done));
    }

    getUser(userId) {
        return this.#oneAnswer((done) => this.client.getUser({ userId }, sent({}), {}, done));
    }

    // `messages` may be an array, which is half-closed after, or undefined, which leaves that to `act`.
    createUsers(messages, { metadata = {}, options = {}, act = () => {} } = {}) {
        return this.#oneAnswer((done) => {
            const call = this.client.createUsers(sent(metadata), options, done);
            messages?.forEach((message) => call.write(message));
            if (messages) call.end();
            act(call);
            return call;
        });
    }

    getAllUsers(metadata = {}, options = {}) {
        return new Answers(this.client.getAllUsers({}, sent(metadata), options));
    }

    updateUsers(metadata = {}, options = {}) {
        return new Answers(this.client.updateUsers(sent(metadata), options));
    }

    // The answer with its metadata, or a rejection with the error, which has its own.
    #oneAnswer(start) {
        return new Promise((resolve, reject) => {
            let initial, answer;
            const call = start((error, response) => (error ? reject(error) : (answer = response)));
            call.on("metadata", (metadata) => (initial = metadata.getMap()));
            call.on("status", ({ metadata }) => answer && resolve({ answer, initial, trailers: metadata.getMap() }));
        });
    }
}

// A call with a stream of answers, read one by one.
class Answers {
    constructor(call) {
        this.call = call;
        this.initial = new Promise((resolve) => call.once("metadata", (metadata) => resolve(metadata.getMap())));
        this.status = new Promise((resolve) => call.once("status", resolve));
        this.iterator = call[Symbol.asyncIterator]();
    }

    // The next answer; undefined at the end.
    async next() {
        return (await this.iterator.next()).value;
    }

    ask(request) {
        this.call.write(request);
        return this.next();
    }

    async rest() {
        const answers = [];
        for (let answer; (answer = await this.next()); ) answers.push(answer);
        return answers;
    }
}

function sent(values) {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(values)) metadata.set(name, value);
    return metadata;
}

// The error that a promise must end with.
async function failure(code, promise) {
    const error = await promise.then(
        () => assert.fail(`no error, wanted ${grpc.status[code]}`),
        (error) => error,
    );
    assert.equal(grpc.status[error.code], grpc.status[code], error.message);
    return error;
}

// The fields that the one BadRequest of an error names; code and message must be those of the trailers.
function badFields(error) {
    const [packed] = error.metadata.get("grpc-status-details-bin");
    const status = Status.decode(packed);
    assert.deepEqual([status.code, status.message], [error.code, error.details]);
    assert.deepEqual(status.details.map((any) => any.type_url), ["type.googleapis.com/google.rpc.BadRequest"]);
    return fieldsOf(status.details[0].value);
}

function fieldsOf(badRequest) {
    return BadRequest.decode(badRequest).fieldViolations.map((violation) => violation.field);
}

// A name that makes CreateUserRequest this long: its tag and length take 5 bytes.
const sized = (bytes) => ({ name: "x".repeat(bytes - 5) });

const fiveMethods = {
    async create_user_and_get_user(users) {
        const { answer, initial } = await users.createUser(
            { name: " Анна 用户 👩‍👩‍👧 ", email: "anna@example.com" },
            { "x-request-id": "of-js" },
        );
        assert.deepEqual([answer.name, answer.email], ["Анна 用户 👩‍👩‍👧", "anna@example.com"]);
        assert.equal(initial["x-request-id"], "of-js");
        assert.deepEqual((await users.getUser(answer.id)).answer, answer);
    },

    async get_all_users_streams_them_in_order_and_tells_the_total_first(users) {
        const { answer } = await users.createUsers(Array(5_000).fill(ALICE));
        const stream = users.getAllUsers();
        const total = Number((await stream.initial)["users-total"]);
        const ids = (await stream.rest()).map((user) => user.id);
        assert.equal(ids.length, total);
        assert.deepEqual(ids.slice(-5_000), answer.userIds);
        assert.equal((await stream.status).code, grpc.status.OK);

        const resumed = users.getAllUsers({ "users-resume-after": answer.userIds[4_000] });
        assert.deepEqual((await resumed.rest()).map((user) => user.id), answer.userIds.slice(4_001));
    },

    async create_users_reports_failures_in_its_trailers(users) {
        const { answer, trailers } = await users.createUsers([ALICE, NOBODY, ALICE, { ...ALICE, email: "x" }]);
        assert.deepEqual([answer.createdCount, answer.userIds.length], [2, 2]);
        assert.equal(trailers["users-failed"], "2");
        assert.deepEqual(fieldsOf(trailers["users-failures-bin"]), [
            "messages[1].name",
            "messages[1].email",
            "messages[3].email",
        ]);
    },

    async create_users_without_messages_or_failures(users) {
        for (const messages of [[], [ALICE]]) {
            const { answer, trailers } = await users.createUsers(messages);
            assert.equal(answer.createdCount, messages.length);
            assert.equal(trailers["users-failed"], "0");
            assert.ok(!("users-failures-bin" in trailers));
        }
    },

    async update_users_answers_each_update_before_the_next(users) {
        const { answer: user } = await users.createUser(ALICE);
        const updates = users.updateUsers();
        for (let n = 0; n < 200; n++) {
            const name = `Alice ${n}`;
            assert.deepEqual(await updates.ask({ userId: user.id, name }), { ...user, name });
        }
        updates.call.end();
        assert.deepEqual(await updates.rest(), []);
        assert.equal((await updates.status).code, grpc.status.OK);
    },

    async an_error_has_its_code_and_message(users) {
        for (const id of ["42", "нет такого 😀", "100 %25\n\ttab"]) {
            const error = await failure(grpc.status.NOT_FOUND, users.getUser(id));
            assert.equal(error.details, `User not found: ${id}`);
        }
    },

    async an_error_has_its_details(users) {
        assert.deepEqual(badFields(await failure(grpc.status.INVALID_ARGUMENT, users.createUser(NOBODY))), [
            "name",
            "email",
        ]);
    },

    async an_error_in_mid_stream_comes_after_the_answers(users) {
        const { answer: user } = await users.createUser(ALICE);
        const updates = users.updateUsers();
        assert.equal((await updates.ask({ userId: user.id, name: "First" })).name, "First");
        const error = await failure(grpc.status.INVALID_ARGUMENT, updates.ask({ userId: user.id, email: "x" }));
        assert.deepEqual(badFields(error), ["email"]);
    },
};

const everythingElse = {
    async an_unknown_method_is_unimplemented(users) {
        const call = new Promise((resolve, reject) =>
            users.client.makeUnaryRequest("/no.such.Service/Call", (it) => it, (it) => it, Buffer.alloc(0), (error) =>
                error ? reject(error) : resolve(),
            ),
        );
        await failure(grpc.status.UNIMPLEMENTED, call);
    },

    async a_deadline_ends_a_batch_that_is_never_half_closed(users) {
        const start = Date.now();
        const call = users.createUsers(undefined, {
            options: { deadline: start + 300 },
            act: (call) => call.write(ALICE),
        });
        await failure(grpc.status.DEADLINE_EXCEEDED, call);
        assert.ok(Date.now() - start < 3_000);
    },

    async the_server_keeps_a_deadline_that_its_client_does_not_watch(users) {
        // Written as plain metadata, the timeout is the server's alone.
        const call = users.createUsers(undefined, {
            metadata: { "grpc-timeout": "300m", "x-request-id": "to-run-out-of-time" },
            act: (call) => call.write(ALICE),
        });
        await failure(grpc.status.DEADLINE_EXCEEDED, call);
    },

    async a_cancelled_conversation_ends(users) {
        const { answer: user } = await users.createUser(ALICE);
        const updates = users.updateUsers();
        assert.deepEqual(await updates.ask({ userId: user.id }), user);
        updates.call.cancel();
        await failure(grpc.status.CANCELLED, updates.next());
        assert.deepEqual((await users.getUser(user.id)).answer, user);
    },

    async a_cancelled_stream_of_users_ends(users) {
        // Node.js half-closes what it cancels: of the other kinds of call some end well on the server.
        const stream = users.getAllUsers({ "x-request-id": "to-be-cancelled" });
        await stream.next();
        stream.call.cancel();
        await failure(grpc.status.CANCELLED, stream.rest());
    },

    async cancelling_many_streams_does_no_harm_to_another_call(users) {
        const { answer: user } = await users.createUser(ALICE);
        const updates = users.updateUsers();
        for (let n = 0; n < 100; n++) {
            const stream = users.getAllUsers();
            // Before that grpc-js does not tell the server.
            await stream.initial;
            if (n % 2) await stream.next();
            stream.call.cancel();
            await failure(grpc.status.CANCELLED, stream.rest());
            assert.deepEqual(await updates.ask({ userId: user.id }), user);
        }
        updates.call.end();
    },

    async a_message_of_4_mib_is_read_and_a_longer_one_refused(users) {
        const error = await failure(grpc.status.INVALID_ARGUMENT, users.createUser(sized(FOUR_MIB)));
        assert.deepEqual(badFields(error), ["name", "email"]);
        await failure(grpc.status.RESOURCE_EXHAUSTED, users.createUser(sized(FOUR_MIB + 1)));
        await users.createUser(ALICE);
    },

    async a_message_that_inflates_beyond_4_mib_is_refused() {
        const users = new Users(GZIP);
        await failure(grpc.status.RESOURCE_EXHAUSTED, users.createUser(sized(2 * FOUR_MIB)));
        await users.createUser(ALICE);
        users.close();
    },

    async a_slow_reader_gets_the_whole_stream_and_delays_no_other_call(users) {
        const long = { name: `Long ${"😀".repeat(170)}`, email: "long@example.com" };
        const { answer } = await users.createUsers(Array(10_000).fill(long));
        const stream = users.getAllUsers();
        const ids = [];
        for (let user; (user = await stream.next()); ) {
            ids.push(user.id);
            if (ids.length % 1_000 === 0) {
                await sleep(50);
                await users.createUser(ALICE, {}, { deadline: Date.now() + 5_000 });
            }
        }
        assert.deepEqual(ids.filter((id) => id >= answer.userIds[0] && id <= answer.userIds.at(-1)), answer.userIds);
    },

    async a_thousand_calls_at_once_are_all_answered(users) {
        const answers = await Promise.all(Array.from({ length: 1_000 }, () => users.createUser(ALICE)));
        assert.equal(new Set(answers.map(({ answer }) => answer.id)).size, 1_000);
    },

    async an_idle_conversation_outlives_a_keepalive_ping() {
        // A third ping within five minutes would be one too many (gRFC A8).
        const users = new Users({ "grpc.keepalive_time_ms": 1_500, "grpc.keepalive_timeout_ms": 1_000 });
        const { answer: user } = await users.createUser(ALICE);
        const updates = users.updateUsers();
        for (let n = 0; n < 2; n++) {
            assert.deepEqual(await updates.ask({ userId: user.id }), user);
            await sleep(2_500);
        }
        assert.deepEqual(await updates.ask({ userId: user.id }), user);
        updates.call.end();
        users.close();
    },
};

async function run(name, test, users) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`took more than ${LIMIT} ms`)), LIMIT);
    });
    try {
        await Promise.race([test(users), late]);
        console.log(`ok ${name}`);
    } catch (error) {
        console.log(`FAIL ${name}: ${String(error.stack ?? error).replaceAll("\n", " | ")}`);
    } finally {
        clearTimeout(timer);
    }
}

const users = new Users();
const compressing = new Users(GZIP);
for (const [name, test] of Object.entries(fiveMethods)) {
    await run(name, test, users);
    await run(`${name}_with_gzip`, test, compressing);
}
for (const [name, test] of Object.entries(everythingElse)) await run(name, test, users);
users.close();
compressing.close();
