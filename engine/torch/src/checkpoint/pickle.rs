//! The pickle inside a `pytorch_model.bin`, read by a machine that can build a state dict and nothing else.
//!
//! A pickle is a program (Python's `Lib/pickletools.py` describes its instructions). The ones that `torch.save` writes
//! for a dictionary of tensors are known here, of all the functions it could name only the three that rebuild a tensor, a
//! parameter and an ordered dictionary, and those make plain data below. Every other instruction or name is refused, so
//! no file can run code, and time and memory are linear in its length.

use std::collections::{BTreeMap, HashMap};

/// Longest pickle, in bytes: that of a model with 100,000 tensors is about a third.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// A tensor as the pickle describes it: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View<'a> {
    /// Name of the storage's file inside the archive.
    pub key: &'a str,
    /// `FloatStorage`, say.
    pub class: &'a str,
    /// Numbers in the storage.
    pub numbers: usize,
    /// Number of the storage at which the tensor begins.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// Numbers to go on by in each dimension.
    pub strides: Vec<usize>,
}

/// What stands on the stack. Everything compound lies in the machine's tables, so that a value is small, and no nesting
/// is deep.
#[derive(Clone, Copy)]
enum PickleValue<'a> {
    Mark,
    Nothing,
    Flag,
    Int(i64),
    Text(&'a str),
    Tuple(usize),
    Dict(usize),
    Storage(usize),
    View(usize),
    /// `torch.FloatStorage` and its like.
    StorageClass(&'a str),
    Rebuild(Function),
}

#[derive(Clone, Copy, PartialEq)]
enum Function {
    OrderedDict,
    Tensor,
    Parameter,
}

/// Storage by class, key and length.
type Storage<'a> = (&'a str, &'a str, usize);

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<PickleValue<'a>>,
    memo: HashMap<u32, PickleValue<'a>>,
    tuples: Vec<Vec<PickleValue<'a>>>,
    dicts: Vec<Vec<(PickleValue<'a>, PickleValue<'a>)>>,
    storages: Vec<Storage<'a>>,
    views: Vec<View<'a>>,
}

/// The tensors of a state dict by name.
///
/// # Errors
/// Says what the pickle holds that a state dict does not.
pub(super) fn state_dict(pickle: &[u8]) -> Result<BTreeMap<&str, View<'_>>, String> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    while machine.step()? {}
    let PickleValue::Dict(dict) = machine.pop()? else {
        return Err("the pickle holds no dictionary of tensors".to_owned());
    };
    let mut tensors = BTreeMap::new();
    for &(key, value) in &machine.dicts[dict] {
        let PickleValue::Text(name) = key else { return Err("a key of the dictionary is not text".to_owned()) };
        let PickleValue::View(view) = value else {
            return Err(format!("{name:?} is not a tensor: no plain state dict"));
        };
        if tensors.insert(name, machine.views[view].clone()).is_some() {
            return Err(format!("the tensor {name:?} stands twice"));
        }
    }
    Ok(tensors)
}

impl<'a> Machine<'a> {
    /// Carries out one instruction; false at the end.
    fn step(&mut self) -> Result<bool, String> {
        match self.take(1)?[0] {
            b'.' => return Ok(false),
            0x80 => {
                let version = self.take(1)?[0];
                if version != 2 {
                    return Err(format!("version {version} of the pickle format; torch.save writes 2"));
                }
            }
            b'(' => self.stack.push(PickleValue::Mark),
            b'N' => self.stack.push(PickleValue::Nothing),
            0x88 | 0x89 => self.stack.push(PickleValue::Flag),
            b'J' => {
                let x = i32::from_le_bytes(self.array()?);
                self.stack.push(PickleValue::Int(x.into()));
            }
            b'K' => {
                let [x] = self.array()?;
                self.stack.push(PickleValue::Int(x.into()));
            }
            b'M' => {
                let x = u16::from_le_bytes(self.array()?);
                self.stack.push(PickleValue::Int(x.into()));
            }
            0x8a => self.long()?,
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                let text = self.take(length as usize)?;
                self.stack.push(PickleValue::Text(utf8(text)?));
            }
            b'q' => {
                let [slot] = self.array()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            b'h' => {
                let [slot] = self.array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.since_mark()?;
                self.push_tuple(items);
            }
            b'}' => self.push_dict(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.top_dict()?.push((key, value));
            }
            b'u' => {
                let items = self.since_mark()?;
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(broken("a key without a value"));
                }
                self.top_dict()?.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            // attributes of the dictionary: versions of the modules, which change nothing in the tensors
            b'b' => {
                self.pop()?;
                self.top_dict()?;
            }
            b'c' => self.global()?,
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            other => return Err(format!("the pickle's instruction 0x{other:02x}, which no state dict needs")),
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| broken("it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| broken("it ends early"))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or_else(|| broken("it ends early"))?;
        let line = self.take(end + 1)?;
        utf8(&line[..end])
    }

    /// An integer of up to eight bytes, little-endian, two's complement.
    fn long(&mut self) -> Result<(), String> {
        let [length] = self.array()?;
        let bytes = self.take(length.into())?;
        if bytes.len() > 8 {
            return Err(broken("a number of more than 64 bits"));
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut word = [fill; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        self.stack.push(PickleValue::Int(i64::from_le_bytes(word)));
        Ok(())
    }

    fn pop(&mut self) -> Result<PickleValue<'a>, String> {
        self.stack.pop().ok_or_else(|| broken("its stack is empty"))
    }

    fn since_mark(&mut self) -> Result<Vec<PickleValue<'a>>, String> {
        let mark = self.stack.iter().rposition(|v| matches!(v, PickleValue::Mark)).ok_or_else(|| broken("no mark"))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or_else(|| broken("its stack is empty"))?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value = *self.memo.get(&slot).ok_or_else(|| broken("it recalls what it never stored"))?;
        self.stack.push(value);
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let start = self.stack.len().checked_sub(count).ok_or_else(|| broken("its stack is empty"))?;
        let items = self.stack.split_off(start);
        self.push_tuple(items);
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<PickleValue<'a>>) {
        self.stack.push(PickleValue::Tuple(self.tuples.len()));
        self.tuples.push(items);
    }

    fn push_dict(&mut self) {
        self.stack.push(PickleValue::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    fn top_dict(&mut self) -> Result<&mut Vec<(PickleValue<'a>, PickleValue<'a>)>, String> {
        match self.stack.last() {
            Some(&PickleValue::Dict(dict)) => Ok(&mut self.dicts[dict]),
            _ => Err(broken("no dictionary where one is filled")),
        }
    }

    /// A name: one of the few that a state dict needs.
    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        self.stack.push(match (module, name) {
            ("collections", "OrderedDict") => PickleValue::Rebuild(Function::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => PickleValue::Rebuild(Function::Tensor),
            ("torch._utils", "_rebuild_parameter") => PickleValue::Rebuild(Function::Parameter),
            ("torch", class) if class.ends_with("Storage") => PickleValue::StorageClass(class),
            _ => return Err(format!("the pickle names {module}.{name}, which is no part of a plain state dict")),
        });
        Ok(())
    }

    /// `('storage', class, key, device, numbers)`.
    fn storage(&mut self) -> Result<(), String> {
        let tuple = self.pop()?;
        let [
            PickleValue::Text("storage"),
            PickleValue::StorageClass(class),
            PickleValue::Text(key),
            PickleValue::Text(_),
            PickleValue::Int(numbers),
        ] = *self.items(tuple)?
        else {
            return Err(broken("a reference that is no storage"));
        };
        let numbers = usize::try_from(numbers).map_err(|_| broken("a storage of negative length"))?;
        self.stack.push(PickleValue::Storage(self.storages.len()));
        self.storages.push((class, key, numbers));
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let PickleValue::Rebuild(function) = function else { return Err(broken("a call of what is no function")) };
        match (function, self.items(arguments)?) {
            (Function::OrderedDict, []) => self.push_dict(),
            // storage, offset, shape, strides, requires_grad, hooks
            (Function::Tensor, &[PickleValue::Storage(storage), PickleValue::Int(offset), shape, strides, ..]) => {
                let (class, key, numbers) = self.storages[storage];
                let offset = size(offset)?;
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() {
                    return Err(broken("a tensor with another number of strides than of dimensions"));
                }
                self.stack.push(PickleValue::View(self.views.len()));
                self.views.push(View { key, class, numbers, offset, shape, strides });
            }
            (Function::Parameter, &[view @ PickleValue::View(_), ..]) => self.stack.push(view),
            _ => return Err(broken("a call with other arguments than torch.save writes")),
        }
        Ok(())
    }

    fn items(&self, tuple: PickleValue<'a>) -> Result<&[PickleValue<'a>], String> {
        let PickleValue::Tuple(tuple) = tuple else { return Err(broken("no tuple where one belongs")) };
        Ok(&self.tuples[tuple])
    }

    fn sizes(&self, tuple: PickleValue<'a>) -> Result<Vec<usize>, String> {
        let number = |v: &PickleValue<'_>| match *v {
            PickleValue::Int(x) => size(x),
            _ => Err(broken("a size that is no number")),
        };
        self.items(tuple)?.iter().map(number).collect()
    }
}

fn size(x: i64) -> Result<usize, String> {
    usize::try_from(x).map_err(|_| broken("a negative size"))
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| broken("text that is not UTF-8"))
}

fn broken(what: &str) -> String {
    format!("the pickle is broken: {what}")
}
