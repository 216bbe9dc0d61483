import "@fontsource-variable/inter/wght.css";
import { mount } from "svelte";
import Page from "./Page.svelte";
import "./style.css";

mount(Page, { target: document.getElementById("page")! });
