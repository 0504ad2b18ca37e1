// certificate.mjs BASE_URL TENANT APP: gives the application a certificate and prints a client assertion signed with its key, as
// Microsoft's libraries make it: PS256, known by x5t#S256.
import { createHash, randomUUID } from 'node:crypto';
import { SignJWT, importJWK } from 'jose';
import { newKey } from '../src/keys.js';

const [base, tenant, app] = process.argv.slice(2);
const key = newKey('daemon');
const thumbprint = createHash('sha256').update(Buffer.from(key.x5c[0], 'base64')).digest('base64url');
await fetch(`${base}/_sim/apps/${app}/certs`, { method: 'POST', body: JSON.stringify({ jwk: { kty: 'RSA', n: key.n, e: key.e }, 'x5t#S256': thumbprint }) });
const now = Math.floor(Date.now() / 1000);
const assertion = new SignJWT({ aud: `${base}/${tenant}/oauth2/v2.0/token`, iss: app, sub: app, jti: randomUUID(), nbf: now, iat: now, exp: now + 300 });
console.log(await assertion.setProtectedHeader({ alg: 'PS256', typ: 'JWT', 'x5t#S256': thumbprint }).sign(await importJWK({ ...key, alg: undefined }, 'PS256')));
