//! burn modules without their type: the border where the trainer stops knowing types.

use std::any::Any;
use std::fmt::{self, Debug, Formatter};

use burn::module::{Devices, Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Device, Int, Tensor};

/// A module of any type that plays a role `R` (a trait object), itself a burn [`Module`].
///
/// It visits, maps, saves and loads exactly the parameters of what is inside, so optimizers and
/// record stores work on it unchanged.
pub struct BoxedModule<R: ?Sized + 'static>(Box<dyn DynModule<R>>);

/// What holds a module and plays a role.
pub(crate) trait Holder: Debug + Clone + Send + Sync + 'static {
    type Inner: Module;
    fn inner(&self) -> &Self::Inner;
    fn into_inner(self) -> Self::Inner;
    fn hold(inner: Self::Inner) -> Self;
}

impl<R: ?Sized + 'static> BoxedModule<R> {
    pub(crate) fn hold<H: Holder>(holder: H, role: fn(&H) -> &R) -> Self {
        Self(Box::new(Held { holder, role }))
    }

    pub(crate) fn role(&self) -> &R {
        self.0.role()
    }
}

impl<R: ?Sized + 'static> Debug for BoxedModule<R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<R: ?Sized + 'static> Clone for BoxedModule<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone_dyn())
    }
}

impl<R: ?Sized + 'static> Module for BoxedModule<R> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.collect_devices_dyn(devices)
    }
    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork_dyn(device))
    }
    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device_dyn(device))
    }
    fn train(self) -> Self {
        Self(self.0.train_dyn())
    }
    fn valid(&self) -> Self {
        Self(self.0.valid_dyn())
    }
    fn materialize(self) -> Self {
        Self(self.0.materialize_dyn())
    }
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.0.visit_dyn(&mut FromDyn(visitor));
    }
    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.map_dyn(&mut FromDyn(mapper)))
    }
}

impl<R: ?Sized + 'static> burn::module::ModuleDisplayDefault for BoxedModule<R> {
    fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
        Some(content.add_formatted(&format!("{self:?}")))
    }
}

impl<R: ?Sized + 'static> burn::module::ModuleDisplay for BoxedModule<R> {}

/// What [`BoxedModule`] needs of a module, in a form that can be a trait object.
trait DynModule<R: ?Sized>: Debug + Send + Sync {
    fn role(&self) -> &R;
    fn clone_dyn(&self) -> Box<dyn DynModule<R>>;
    fn collect_devices_dyn(&self, devices: Devices) -> Devices;
    fn fork_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynModule<R>>;
    fn to_device_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynModule<R>>;
    fn train_dyn(self: Box<Self>) -> Box<dyn DynModule<R>>;
    fn valid_dyn(&self) -> Box<dyn DynModule<R>>;
    fn materialize_dyn(self: Box<Self>) -> Box<dyn DynModule<R>>;
    fn visit_dyn(&self, visitor: &mut dyn DynVisitor);
    fn map_dyn(self: Box<Self>, mapper: &mut dyn DynMapper) -> Box<dyn DynModule<R>>;
}

struct Held<H, R: ?Sized> {
    holder: H,
    role: fn(&H) -> &R,
}

impl<H: Holder, R: ?Sized + 'static> Held<H, R> {
    fn with(&self, inner: H::Inner) -> Box<dyn DynModule<R>> {
        Box::new(Self { holder: H::hold(inner), role: self.role })
    }

    fn mapped(self, map: impl FnOnce(H::Inner) -> H::Inner) -> Box<dyn DynModule<R>> {
        let role = self.role;
        Box::new(Self { holder: H::hold(map(self.holder.into_inner())), role })
    }
}

impl<H: Debug, R: ?Sized> Debug for Held<H, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.holder.fmt(f)
    }
}

impl<H: Holder, R: ?Sized + 'static> DynModule<R> for Held<H, R> {
    fn role(&self) -> &R {
        (self.role)(&self.holder)
    }
    fn clone_dyn(&self) -> Box<dyn DynModule<R>> {
        Box::new(Self { holder: self.holder.clone(), role: self.role })
    }
    fn collect_devices_dyn(&self, devices: Devices) -> Devices {
        self.holder.inner().collect_devices(devices)
    }
    fn fork_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynModule<R>> {
        self.mapped(|inner| inner.fork(device))
    }
    fn to_device_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynModule<R>> {
        self.mapped(|inner| inner.to_device(device))
    }
    fn train_dyn(self: Box<Self>) -> Box<dyn DynModule<R>> {
        self.mapped(Module::train)
    }
    fn valid_dyn(&self) -> Box<dyn DynModule<R>> {
        self.with(self.holder.inner().valid())
    }
    fn materialize_dyn(self: Box<Self>) -> Box<dyn DynModule<R>> {
        self.mapped(Module::materialize)
    }
    fn visit_dyn(&self, visitor: &mut dyn DynVisitor) {
        self.holder.inner().visit(&mut ToDyn(visitor));
    }
    fn map_dyn(self: Box<Self>, mapper: &mut dyn DynMapper) -> Box<dyn DynModule<R>> {
        self.mapped(|inner| inner.map(&mut ToDyn(mapper)))
    }
}

/// A [`ModuleVisitor`] without generic methods: parameters travel as [`Any`].
trait DynVisitor {
    fn visit(&mut self, param: &dyn Any);
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// A [`ModuleMapper`] without generic methods. What goes in comes out as the same type.
trait DynMapper {
    fn map(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// From burn's generic traversal to the erased one.
struct ToDyn<T>(T);

/// From the erased traversal back to burn's generic one.
struct FromDyn<'a, T>(&'a mut T);

impl ModuleVisitor for ToDyn<&mut dyn DynVisitor> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.visit(param);
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.visit(param);
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.visit(param);
    }
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.visit(flag);
    }
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }
    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
    fn visit_float_with_path<const D: usize>(&mut self, _: &[String], id: ParamId, t: &Tensor<D>) {
        self.0.visit(&Param::initialized(id, t.clone()));
    }
}

fn through<T: 'static>(mapper: &mut dyn DynMapper, param: T) -> T {
    match mapper.map(Box::new(param)).downcast::<T>() {
        Ok(param) => *param,
        Err(_) => unreachable!("a mapper returns the type of parameter that it was given"),
    }
}

impl ModuleMapper for ToDyn<&mut dyn DynMapper> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        through(self.0, param)
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        through(self.0, param)
    }
    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        through(self.0, param)
    }
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        through(self.0, flag)
    }
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }
    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

/// Tries every rank and kind of parameter that burn's macros can produce.
macro_rules! each_parameter {
    ($call:ident) => {
        $call!(float; 1 2 3 4 5 6 7 8);
        $call!(int; 1 2 3 4 5 6 7 8);
        $call!(bool; 1 2 3 4 5 6 7 8);
    };
}

impl<V: ModuleVisitor> DynVisitor for FromDyn<'_, V> {
    fn visit(&mut self, param: &dyn Any) {
        macro_rules! try_visit {
            (float; $($d:literal)*) => {$(
                if let Some(p) = param.downcast_ref::<Param<Tensor<$d>>>() {
                    return self.0.visit_float(p);
                }
            )*};
            (int; $($d:literal)*) => {$(
                if let Some(p) = param.downcast_ref::<Param<Tensor<$d, Int>>>() {
                    return self.0.visit_int(p);
                }
            )*};
            (bool; $($d:literal)*) => {$(
                if let Some(p) = param.downcast_ref::<Param<Tensor<$d, Bool>>>() {
                    return self.0.visit_bool(p);
                }
            )*};
        }
        if let Some(flag) = param.downcast_ref::<Param<Flag>>() {
            return self.0.visit_flag(flag);
        }
        each_parameter!(try_visit);
        unreachable!("burn's tensors have 1 to 8 axes");
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

impl<M: ModuleMapper> DynMapper for FromDyn<'_, M> {
    fn map(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        let mut param = param;
        macro_rules! try_map {
            (float; $($d:literal)*) => {$(
                param = match param.downcast::<Param<Tensor<$d>>>() {
                    Ok(p) => return Box::new(self.0.map_float(*p)),
                    Err(other) => other,
                };
            )*};
            (int; $($d:literal)*) => {$(
                param = match param.downcast::<Param<Tensor<$d, Int>>>() {
                    Ok(p) => return Box::new(self.0.map_int(*p)),
                    Err(other) => other,
                };
            )*};
            (bool; $($d:literal)*) => {$(
                param = match param.downcast::<Param<Tensor<$d, Bool>>>() {
                    Ok(p) => return Box::new(self.0.map_bool(*p)),
                    Err(other) => other,
                };
            )*};
        }
        param = match param.downcast::<Param<Flag>>() {
            Ok(flag) => return Box::new(self.0.map_flag(*flag)),
            Err(other) => other,
        };
        each_parameter!(try_map);
        drop(param);
        unreachable!("burn's tensors have 1 to 8 axes");
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}
