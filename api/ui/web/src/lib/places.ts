// The pages: their groups in the side bar, their icon, and the key that goes there behind `g`.

import type { Component } from "svelte";
import type { IconName } from "../ui/Icon.svelte";
import type { Key } from "./i18n.svelte";

export interface Place {
  name: string;
  icon: IconName;
  key: string;
  title: Key;
  load: () => Promise<{ default: Component }>;
}

export const groups: { title: Key; places: Place[] }[] = [
  {
    title: "nav.watch",
    places: [
      { name: "overview", icon: "overview", key: "o", title: "nav.overview", load: () => import("../pages/Overview.svelte") },
      { name: "nodes", icon: "nodes", key: "n", title: "nav.nodes", load: () => import("../pages/Nodes.svelte") },
      { name: "alarms", icon: "alarms", key: "a", title: "nav.alarms", load: () => import("../pages/Alarms.svelte") },
    ],
  },
  {
    title: "nav.traffic",
    places: [
      { name: "clients", icon: "clients", key: "c", title: "nav.clients", load: () => import("../pages/Clients.svelte") },
      { name: "subscriptions", icon: "subscriptions", key: "s", title: "nav.subscriptions", load: () => import("../pages/Subscriptions.svelte") },
      { name: "topics", icon: "topics", key: "t", title: "nav.topics", load: () => import("../pages/Topics.svelte") },
      { name: "retained", icon: "retained", key: "r", title: "nav.retained", load: () => import("../pages/Retained.svelte") },
      { name: "mqttsn", icon: "mqttsn", key: "m", title: "nav.mqttsn", load: () => import("../pages/MqttSn.svelte") },
    ],
  },
  {
    title: "nav.access_group",
    places: [
      { name: "access", icon: "access", key: "u", title: "nav.access", load: () => import("../pages/Access.svelte") },
      { name: "bans", icon: "bans", key: "b", title: "nav.bans", load: () => import("../pages/Bans.svelte") },
      { name: "accounts", icon: "accounts", key: "k", title: "nav.accounts", load: () => import("../pages/Accounts.svelte") },
    ],
  },
  {
    title: "nav.diagnose",
    places: [
      { name: "explain", icon: "explain", key: "x", title: "nav.explain", load: () => import("../pages/Explain.svelte") },
      { name: "traces", icon: "traces", key: "e", title: "nav.traces", load: () => import("../pages/Traces.svelte") },
      { name: "tool", icon: "tool", key: "p", title: "nav.tool", load: () => import("../pages/Tool.svelte") },
    ],
  },
  {
    title: "nav.system",
    places: [
      { name: "listeners", icon: "listeners", key: "l", title: "nav.listeners", load: () => import("../pages/Listeners.svelte") },
      { name: "settings", icon: "settings", key: ",", title: "nav.settings", load: () => import("../pages/Settings.svelte") },
    ],
  },
];

export const places = groups.flatMap((group) => group.places);
