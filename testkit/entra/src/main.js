// The stand-in as a program. Settings are in the environment: PORT (0 takes a free one), HOST, BASE_URL (what issuers and
// endpoints are called), TLS_CERT and TLS_KEY (PEM files), REDIRECT_URIS (of the gateway, separated by spaces). It prints one line of
// JSON with its address once it listens, and ends when its standard input does if WATCH_STDIN is 1.
import './clock.js'; // before whatever asks for the time
import * as http from 'node:http';
import * as https from 'node:https';
import { readFileSync } from 'node:fs';
import { APP, CONTOSO, FABRIKAM } from './directory.js';
import { front } from './front.js';
import { Entra } from './state.js';

const { PORT = '4480', HOST = '127.0.0.1', BASE_URL, TLS_CERT, TLS_KEY, REDIRECT_URIS = '', WATCH_STDIN } = process.env;
let listener = (request, response) => response.writeHead(503).end(); // until it knows its own address
const answer = (request, response) => listener(request, response);
const server = TLS_CERT ? https.createServer({ cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) }, answer) : http.createServer(answer);
server.keepAliveTimeout = 60_000;
server.once('error', error => { console.error(error.message); process.exit(1); });
server.listen(Number(PORT), HOST, () => {
  const host = HOST.includes(':') ? `[${HOST}]` : HOST;
  const base = (BASE_URL ?? `${TLS_CERT ? 'https' : 'http'}://${host}:PORT`).replace('PORT', server.address().port).replace(/\/$/, '');
  const entra = new Entra(base, { redirectUris: REDIRECT_URIS.split(/\s+/).filter(Boolean) });
  listener = front(entra);
  console.log(JSON.stringify({ url: base, tenants: { contoso: CONTOSO, fabrikam: FABRIKAM }, gateway: APP.gateway }));
});

const stop = () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
};
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop);
if (WATCH_STDIN === '1') process.stdin.on('end', stop).resume();
