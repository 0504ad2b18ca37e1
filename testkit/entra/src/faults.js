// Faults on demand: throttling, errors of the server, slowness, dropped connections, and any AADSTS error.
import { setTimeout as sleep } from 'node:timers/promises';
import { Aadsts } from './aadsts.js';
import { send } from './http.js';

/** `match` names facts of a request (endpoint, grant_type, client_id, tenant, path_regex); `times` of -1 is for ever. */
export function addFault(entra, { match = {}, action = {}, times = 1, probability = 1 }) {
  const fault = { id: entra.faults.length + 1, times, hits: 0, probability, match, action };
  entra.faults.push(fault);
  return fault;
}

/** Says whether a fault has answered the request. A fault that is only slow answers nothing. */
export async function applyFaults(entra, request, response, facts) {
  for (const fault of entra.faults) {
    const meets = Object.entries(fault.match).every(([name, wanted]) => (name === 'path_regex' ? new RegExp(wanted).test(facts.path) : facts[name] === wanted));
    if (!meets || (fault.times >= 0 && fault.hits >= fault.times) || Math.random() >= fault.probability) continue;
    fault.hits += 1;
    response.simFault = fault.id;
    if (await act(entra, request, response, fault.action)) return true;
  }
  return false;
}

async function act(entra, request, response, action) {
  if (action.latency_ms) await sleep(action.latency_ms);
  if (action.drop) {
    request.socket.destroy();
    return true;
  }
  if (action.aadsts) {
    const error = new Aadsts(action.aadsts, action);
    response.simAadsts = error.code;
    send(response, error.status, error.body(entra.base), action.headers);
    return true;
  }
  if (!action.status) return false;
  const usual = action.status === 429 ? 'Too Many Requests' : { error: 'temporarily_unavailable', error_description: 'AADSTS90033: A transient error has occurred. Please try again.' };
  send(response, action.status, action.body ?? usual, { ...(action.retry_after === undefined ? {} : { 'retry-after': String(action.retry_after) }), ...action.headers });
  return true;
}
